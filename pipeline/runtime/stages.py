"""What a stage of a ladder leaves beside its model, for those that compare and report it."""

import dataclasses
import json
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from keras_ae import storage
from keras_ae.presets import Preset
from keras_ae.storage import PathOrUri
from pipeline.runtime.artifacts import SUMMARY


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageSummary:
    """A stage that was trained, as `summary.json` has it.

    Attributes:
        start, stop: epochs of the ladder before and after.
        seconds: time in training steps, including those before an interruption.
        tiles_per_second: over the epochs that were trained without one.
        loss: mean of the last epoch.
        preset: its name; that of a tuned one ends in "tuned".
        preset_settings: how the model was built and trained.
        channels, stride, latent_channels: of the model.
        seed: of weights, crops and order.
        batch_size: largest number of tiles in a step.
        parameters: of the model.
        flops_per_pixel: of a reconstruction.
        decoded_bytes: of all training images.
        placement: where the training images were kept.
        tile: side of a training tile, pixels.
        served_tile: most pixels of a side that go through the served model at once.
        tiles_per_epoch: tiles that an epoch shows.
        backend: of Keras.
        code_fingerprint: digest of the training code.
        trained_on: what `pipeline.runtime.environment.describe` says.
        losses: mean of each epoch of the stage.
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
    trained_on: dict[str, Any]
    losses: tuple[float, ...]

    def to_json(self) -> str:
        """The text of `summary.json`."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @property
    def graph(self) -> str:
        """All that the graph of the SavedModel follows from; the rest is in its weights."""
        settings = dataclasses.asdict(self.preset_settings)
        shape = self.channels, self.stride, self.latent_channels, self.served_tile
        return json.dumps([settings, *shape, self.code_fingerprint], sort_keys=True)


def read_summary(model: PathOrUri) -> StageSummary:
    """The summary that lies in a Model artifact of a stage.

    Args:
        model: folder of the artifact, or its URI.
    """
    return _adapter().validate_json(storage.read_file(storage.join(model, SUMMARY)))


@cache
def _adapter() -> TypeAdapter[StageSummary]:
    return TypeAdapter(StageSummary)
