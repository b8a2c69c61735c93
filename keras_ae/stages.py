"""The record of a trained stage, which the Trainer writes and the comparison reads.

All that a Trainer imports enters its cache key, so that the other records are in
`keras_ae.comparison.records`.
"""

import dataclasses
import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from keras_ae.presets import Preset

Count = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """Base class of records: frozen, without unknown fields, without NaN."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        # `from` is a keyword in Python, so the attribute is called `from_`.
        alias_generator=lambda name: name.rstrip("_"),
        validate_by_alias=True,
        validate_by_name=True,
        # Building fifty validators would delay `--help`.
        defer_build=True,
    )

    def to_json(self) -> str:
        """Formats the record as JSON, without the fields that were not set."""
        # Python's encoder formats floats as earlier versions of the file do; Pydantic's does not.
        values = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return json.dumps(values, indent=1, allow_nan=False)


class Machine(Record):
    """The properties of a machine that results may depend on."""

    platform: str = Field(description="Operating system and its version.")
    processor: str = Field(description="Name of the processor.")
    cpu_flags: tuple[str, ...] = Field(description="CPU features by which kernels are chosen.")
    cores: Count = Field(description="Cores that the process may use.")
    memory_bytes: Count = Field(description="Memory that the process may use.")
    accelerators: tuple[str, ...] = Field(description="Names of the GPUs.")


class ThreadSettings(Record):
    """The thread settings of TensorFlow."""

    intra_op_threads: Count = Field(description="Threads within an operation; 0 for one per core.")
    inter_op_threads: Count = Field(description="Threads between operations; 0 for one per core.")
    deterministic_ops: bool = Field(description="Whether deterministic operations were enabled.")


class Environment(Record):
    """What training depends on in addition to data, code and flags."""

    machine: Machine = Field(description="Machine of the process.")
    packages: Annotated[
        dict[str, str], Field(json_schema_extra={"required": ["keras", "numpy", "python"]})
    ] = Field(description="Versions of Python and of packages, by name.")
    backend: str = Field(description="Backend of Keras.")
    environment: dict[str, str] = Field(description="Environment variables that libraries read.")
    settings: ThreadSettings = Field(description="Settings of TensorFlow.")


class StageSummary(Record):
    """The content of `summary.json`.

    Attributes:
        start, stop: epochs of the ladder before and after the stage.
        seconds: time in training steps, including those before an interruption.
        tiles_per_second: speed of the epochs since the last interruption.
        loss: mean loss of the last epoch.
        preset: name of the preset; the name of a tuned one ends in "tuned".
        preset_settings: how the model was built and trained.
        channels, stride, latent_channels: shape of the model.
        seed: seed of weights, crops and order.
        batch_size: batch size (maximum).
        parameters: number of parameters of the model.
        flops_per_pixel: floating-point operations of a reconstruction.
        decoded_bytes: size of all training images.
        placement: where the training images were kept.
        tile, served_tile: side of a training tile and of the served model's tiles, pixels.
        tiles_per_epoch: number of training tiles in an epoch.
        backend: backend of Keras.
        code_fingerprint: digest of the training code.
        trained_on: environment of the process.
        losses: mean loss of each epoch of the stage.
    """

    start: int
    stop: int
    seconds: float
    tiles_per_second: float
    loss: float
    preset: str
    preset_settings: Preset
    channels: int
    stride: int
    latent_channels: int
    seed: int
    batch_size: int
    parameters: int
    flops_per_pixel: float
    decoded_bytes: int
    placement: str
    tile: int
    served_tile: int
    tiles_per_epoch: int
    backend: str
    code_fingerprint: str
    trained_on: Environment
    losses: tuple[float, ...]

    @property
    def graph(self) -> str:
        """All that the graph of the SavedModel depends on: equal texts, equal graphs."""
        settings = dataclasses.asdict(self.preset_settings)
        shape = self.channels, self.stride, self.latent_channels, self.served_tile
        return json.dumps([settings, *shape, self.code_fingerprint], sort_keys=True)
