"""Settings of the search for hyperparameters before the ladder."""

import dataclasses

from pipeline.runtime.settings import Settings, TrainingSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search(Settings):
    """A search around a preset and a batch size.

    Attributes:
        trials, epochs: number of trials, and epochs of each.
        parameters: maximum number of trainable parameters of a model.
    """

    trials: int
    epochs: int
    parameters: int
    preset: str
    batch_size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class TunerConfig(Search, TrainingSettings):
    """Settings of a Tuner, passed as its `custom_config`; `fingerprint` is that of its code."""

    seed: int
    fingerprint: str
