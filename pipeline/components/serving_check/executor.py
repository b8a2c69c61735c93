"""Executor of ServingCheck: compares the predictions of Keras, the SavedModel and a server."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

import keras_ae.models.autoencoder  # noqa: F401 - registers what `model.keras` is made of
from keras_ae import contract as c
from keras_ae import storage
from keras_ae.datasets.images.decoding import decode_stored
from keras_ae.models.layers import to_float, to_uint8
from pipeline.components.serving_check import server
from pipeline.runtime import versions
from pipeline.runtime.artifacts import MODEL, fetched, model_digest, written

EXPECTED = "EXPECTED.npz"
BLESSED, NOT_BLESSED = "INFRA_BLESSED", "INFRA_NOT_BLESSED"
REASON = "reason"
TOLERANCE = 1
"""Maximum difference between predictions, in grey levels."""
# Sizes of the images that are compared, in pixels.
SIDE, BATCH_SIZE, ODD_SIZE = 64, 8, (37, 53)
EXCESS, STRIP_WIDTH = 40, 24
"""How much higher than a tile the largest image is, and its width."""


class Executor(base_executor.BaseExecutor):
    """Blesses a SavedModel whose predictions are those of `model.keras`, in process and served."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Compares a model that is to be pushed, and writes the blessing."""
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        evaluated = artifact_utils.get_single_instance(input_dict["model_blessing"])
        model = artifact_utils.get_single_uri(input_dict["model"])
        try:
            with written(blessing.uri) as output:
                if not model_utils.is_model_blessed(evaluated):
                    _mark(blessing, output, blessed=False)
                    return
                with fetched(model) as folder:
                    reason = _compare(folder, input_dict, exec_properties, output / EXPECTED)
                _mark(blessing, output, blessed=not reason, reason=reason)
        finally:
            # A server that was started ahead, if the model need not be compared.
            server.stop()


def _compare(
    model: Path,
    input_dict: dict[str, list[types.Artifact]],
    exec_properties: dict[str, Any],
    expected: Path,
) -> str:
    """Compares the models of a Model artifact, unless it is in service; returns what differs."""
    saved_model = Path(path_utils.serving_model_path(str(model)))
    newest = versions.newest_version(exec_properties["push_destination"])
    if newest is not None and versions.digest(newest) == model_digest(saved_model):
        return ""
    examples = artifact_utils.get_single_instance(input_dict["examples"])
    split = artifact_utils.get_split_uri([examples], c.TEST)
    command = json.loads(exec_properties["command"])
    tile = exec_properties["tile"]
    return compare(model / MODEL, saved_model, f"{split}/*.gz", tile, command, expected)


def compare(
    keras_model: Path,
    saved_model: Path,
    pattern: str,
    tile: int,
    command: Sequence[str],
    expected: Path,
) -> str:
    """Compares the reconstructions of a model in each of its formats, for a few images.

    Args:
        keras_model, saved_model: file of the model in Keras's own format, and folder of the other.
        pattern: files of GZIP TFRecords of tf.Examples.
        tile: side of the tiles of the SavedModel, pixels.
        command: serves the SavedModel and compares; see `ServingCheck`.
        expected: NPZ file that is written for this command.

    Returns:
        What differs, in one line; empty if nothing does.
    """
    model = keras.saving.load_model(keras_model, compile=False)
    images = sample_images(pattern, model.channels, tile)
    reconstructions = [np.asarray(to_uint8(model(to_float(batch)))) for batch in images]
    arrays: dict[str, Any] = {f"images_{i}": batch for i, batch in enumerate(images)}
    arrays |= {f"reconstructions_{i}": batch for i, batch in enumerate(reconstructions)}
    np.savez(expected, **arrays)
    with server.running(command, saved_model) if command else nullcontext() as check:
        # The server starts meanwhile.
        signature = tf.saved_model.load(str(saved_model)).signatures[c.RECONSTRUCT]
        for batch, reconstruction in zip(images, reconstructions):
            served = signature(images=tf.constant(batch))[c.RECONSTRUCTIONS].numpy()
            difference = int(np.abs(served.astype(int) - reconstruction).max())
            if difference > TOLERANCE:
                height, width = batch.shape[1:3]
                return (
                    f"the SavedModel differs from {MODEL} by {difference} of 255 grey levels on "
                    f"an image of {height}x{width}; at most {TOLERANCE} is allowed"
                )
        return check.compare(expected) if check else ""


def sample_images(pattern: str, channels: int, tile: int) -> list[np.ndarray]:
    """Crops of the first images, uint8 [N, H, W, channels]: a batch of small ones, one of odd size,
    one larger than a tile. Images that are too small for that are padded by reflection."""
    records = tf.data.TFRecordDataset(storage.glob(pattern), compression_type="GZIP")
    spec = {c.IMAGE_ENCODED: tf.io.FixedLenFeature((), tf.string)}
    features = [tf.io.parse_single_example(record, spec) for record in records.take(BATCH_SIZE)]
    images = [decode_stored(each[c.IMAGE_ENCODED], channels).numpy() for each in features]
    batch = [_center_crop(images[i % len(images)], SIDE, SIDE) for i in range(BATCH_SIZE)]
    large = _center_crop(images[0], tile + EXCESS, STRIP_WIDTH)
    return [np.stack(batch), _center_crop(images[-1], *ODD_SIZE)[None], large[None]]


def _center_crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The center of an image [H, W, C]."""
    missing = [max(0, size - side) for size, side in zip((height, width), image.shape)]
    image = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    top, left = ((side - size) // 2 for side, size in zip(image.shape, (height, width)))
    return image[top : top + height, left : left + width]


def _mark(blessing: types.Artifact, folder: Path, *, blessed: bool, reason: str = "") -> None:
    """Writes the blessing as TFX's InfraValidator does."""
    (folder / (BLESSED if blessed else NOT_BLESSED)).write_bytes(b"")
    blessing.set_int_custom_property("blessed", int(blessed))
    if reason:
        blessing.set_string_custom_property(REASON, reason)
