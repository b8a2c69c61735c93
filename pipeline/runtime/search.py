"""Settings of the search for hyperparameters before the ladder."""

import dataclasses

from pipeline.runtime.settings import Settings, TrainingSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search(Settings):
    """A search for hyperparameters.

    Attributes:
        trials: number of trials.
        epochs: epochs of each trial.
        parameters: maximum number of trainable parameters of a model.
        preset: name of the preset around which to search.
        batch_size: batch size (maximum) around which to search.
    """

    trials: int
    epochs: int
    parameters: int
    preset: str
    batch_size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class TunerConfig(Search, TrainingSettings):
    """Settings of a Tuner, passed as its `custom_config`.

    Attributes:
        seed: seed of weights, tiles and search.
        fingerprint: digest of the tuning code.
    """

    seed: int
    fingerprint: str
