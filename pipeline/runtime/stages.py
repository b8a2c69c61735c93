"""The summary that a Trainer writes of its stage, and that comparison and report read."""

import dataclasses
import json
from typing import Any

from keras_ae import storage
from keras_ae.presets import Preset
from keras_ae.storage import PathOrUri
from pipeline.runtime.artifacts import SUMMARY
from pipeline.runtime.settings import Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageSummary(Settings):
    """The content of `summary.json`: settings of a stage, and what came of it.

    Attributes:
        start, stop: epochs of the ladder before and after the stage.
        seconds: time in training steps, including those before an interruption.
        tiles_per_second: speed of the epochs since the last interruption.
        loss, losses: mean loss of the last epoch, and of each epoch of the stage.
        preset, preset_settings: name and content; the name of a tuned preset ends in "tuned".
        batch_size: batch size (maximum).
        parameters, flops_per_pixel: of the model; operations of a reconstruction.
        decoded_bytes, placement: size of all training images, and where they were kept.
        tile, served_tile: sides of the tiles in training and of the served model, pixels.
        tiles_per_epoch: number of training tiles in an epoch.
        backend: backend of Keras.
        code_fingerprint: digest of the training code.
        trained_on: `pipeline.runtime.environment.describe` of the process.
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

    @property
    def graph(self) -> str:
        """All that the graph of the SavedModel depends on: equal texts, equal graphs."""
        settings = dataclasses.asdict(self.preset_settings)
        shape = self.channels, self.stride, self.latent_channels, self.served_tile
        return json.dumps([settings, *shape, self.code_fingerprint], sort_keys=True)


def read_summary(model: PathOrUri) -> StageSummary:
    """Reads the summary in the Model artifact of a stage, a folder or its URI."""
    return StageSummary.from_json(storage.read_file(storage.join(model, SUMMARY)))
