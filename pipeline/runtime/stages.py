"""The summary that a Trainer writes of its stage, and that comparison and report read."""

import dataclasses
import json
from functools import cache

from pydantic import TypeAdapter

from keras_ae import storage
from keras_ae.presets import Preset
from keras_ae.storage import PathOrUri
from pipeline.runtime.artifacts import SUMMARY
from pipeline.runtime.environment import Environment


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageSummary:
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
        tile: side of a training tile, pixels.
        served_tile: side of the tiles of the served model, pixels.
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

    def to_json(self) -> str:
        """The text of `summary.json`."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @property
    def graph(self) -> str:
        """All that the graph of the SavedModel depends on: equal texts, equal graphs."""
        settings = dataclasses.asdict(self.preset_settings)
        shape = self.channels, self.stride, self.latent_channels, self.served_tile
        return json.dumps([settings, *shape, self.code_fingerprint], sort_keys=True)


def read_summary(model: PathOrUri) -> StageSummary:
    """Reads the summary in the Model artifact of a stage.

    Args:
        model: folder of the artifact, or its URI.
    """
    return _adapter().validate_json(storage.read_file(storage.join(model, SUMMARY)))


@cache
def _adapter() -> TypeAdapter[StageSummary]:
    return TypeAdapter(StageSummary)
