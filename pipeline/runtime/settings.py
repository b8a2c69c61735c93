"""Settings of the pipeline's components, which reach them as JSON.

A field with the name of a setting in `RunConfig` is taken from there: a new flag is a field of
`RunConfig` and one of the class that its consumer reads. This module has the settings of training
only, because all that a Trainer imports enters its cache key.
"""

import dataclasses
import json
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, TypeAdapter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a component; subclasses are frozen dataclasses."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    @classmethod
    def of(cls, *sources: object, **others: Any) -> Self:
        """Takes each field from the argument of its name, or else the last source that has it."""
        names = [field.name for field in dataclasses.fields(cls)]
        values = {n: getattr(source, n) for source in sources for n in names if hasattr(source, n)}
        return cls(**values | others)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Reads fields by name, and checks their types; fields that it does not know are errors."""
        return TypeAdapter(cls).validate_python(values)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Reads the text of `to_json`, and checks it as `from_dict` does."""
        return TypeAdapter(cls).validate_json(text)

    def to_json(self, indent: int | None = None) -> str:
        """All fields as text."""
        return json.dumps(dataclasses.asdict(self), indent=indent)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """Settings that the Trainers and the Tuner of a run have in common.

    Attributes:
        batch_size: batch size (maximum); a Tuner may change it.
        memory_limit_bytes: size of the decoded training images above which they are streamed; None
            for half of the machine's memory.
        checkpoints: path or URI of the folder for the state of unfinished work.
    """

    channels: int
    stride: int
    latent_channels: int
    batch_size: int
    memory_limit_bytes: int | None
    checkpoints: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageSettings(TrainingSettings):
    """Settings of a Trainer, passed as its `custom_config`.

    Attributes:
        tile: side of the tiles of the served model, pixels.
        start, stop: epochs of the ladder before and after the stage.
        fingerprint: digest of the training code.
    """

    tile: int
    start: int
    stop: int
    fingerprint: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig(StageSettings):
    """All settings of `pipeline.trainer.run_fn`.

    Attributes:
        preset: name of the model's preset; a Tuner may change its values.
        seed: seed of the initial weights and of the tiles.
    """

    preset: str
    seed: int
