"""What a search before the ladder is told."""

import dataclasses

from pipeline.runtime.settings import Settings, TrainingSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search(Settings):
    """What a Tuner searches.

    Attributes:
        trials: how many.
        epochs: of each trial.
        parameters: most trainable parameters of a model.
        preset: around which to search.
        batch_size: largest number of tiles in a step, around which to search.
    """

    trials: int
    epochs: int
    parameters: int
    preset: str
    batch_size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class TunerConfig(Search, TrainingSettings):
    """What a Tuner is told in its `custom_config`.

    Attributes:
        seed: of weights, tiles and search.
        fingerprint: of the tuning code.
    """

    seed: int
    fingerprint: str
