"""What the definition hands its components, as types that travel as JSON.

A field that has the name of a setting in `RunConfig` is taken from there: a new flag is a field of
`RunConfig` and one of the class that its consumer reads. Those of training lie here and no others:
what a Trainer imports is in its cache key.
"""

import dataclasses
import json
from typing import Any, Self

from pydantic import TypeAdapter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a component; subclasses are frozen dataclasses."""

    @classmethod
    def of(cls, config: object, **others: Any) -> Self:
        """Takes what a run configuration has, and the rest from `others`."""
        names = [field.name for field in dataclasses.fields(cls) if hasattr(config, field.name)]
        return cls(**{name: getattr(config, name) for name in names} | others)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote, and checks its types."""
        return TypeAdapter(cls).validate_json(text)

    def to_json(self) -> str:
        """All fields as text."""
        return json.dumps(dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """What Trainers and the Tuner of a run have in common.

    Attributes:
        channels, stride, latent_channels: of the model.
        batch_size: largest number of tiles in a step; a Tuner may change it.
        memory_limit_bytes: of decoded training images, above which they are streamed; None for half
            of the machine's memory.
        checkpoints: folder, or its URI, for the state of unfinished work.
    """

    channels: int
    stride: int
    latent_channels: int
    batch_size: int
    memory_limit_bytes: int | None
    checkpoints: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageSettings(TrainingSettings):
    """What a Trainer is told in its `custom_config`.

    Attributes:
        tile: most pixels of a side that go through the served model at once.
        start, stop: epochs of the ladder before and after.
        fingerprint: of the training code.
    """

    tile: int
    start: int
    stop: int
    fingerprint: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig(StageSettings):
    """All that `pipeline.trainer.run_fn` is told.

    Attributes:
        preset: name of the model's preset; a Tuner may change what it stands for.
        seed: of the initial weights and of the tiles.
    """

    preset: str
    seed: int
