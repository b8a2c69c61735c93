"""The input data of Trainer and Tuner: tiles, and patch moments from the Transform graph."""

import logging
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from keras_ae import contract as c
from keras_ae import storage
from keras_ae.datasets.streaming import StoredImages, StreamedTiles
from keras_ae.datasets.tiles import Tiles, TileSource
from pipeline.preprocessing import PATCH_MOMENTS
from pipeline.runtime import console, memory


class TrainingImages:
    """The training images, kept decoded in memory if they fit, else streamed.

    Args:
        patterns: files of GZIP TFRecords.
        channels: 1 or 3, as the images are stored.
        memory_limit: maximum `decoded_bytes` in memory; None for half of the machine's memory.

    Attributes:
        decoded_bytes: size of all images when decoded.
        streamed: whether that exceeds the limit.
    """

    def __init__(self, patterns: list[str], channels: int, memory_limit: int | None):
        self._stored, self._channels = StoredImages(patterns), channels
        self._limit = memory.default_limit() if memory_limit is None else memory_limit
        self.decoded_bytes = self._stored.decoded_bytes(channels)
        self.streamed = self.decoded_bytes > self._limit

    def tiles(self, stride: int, batch_size: int, seed: int) -> TileSource:
        """The tiles of these images; see `keras_ae.datasets.tiles.Tiles` for the arguments."""
        settings = {"stride": stride, "batch_size": batch_size, "seed": seed}
        if self.streamed:
            return StreamedTiles(self._stored, self._channels, **settings)
        return Tiles(self._images, **settings)

    @cached_property
    def _images(self) -> list[np.ndarray]:
        return read_images(self._stored, self._channels)

    def report_placement(self, *, to_terminal: bool) -> None:
        """Logs whether the images are in memory or streamed, and optionally prints it."""
        exceeded = f"more than {storage.format_bytes(self._limit)}: streamed"
        placement = exceeded if self.streamed else "in memory"
        text = f"training images: {storage.format_bytes(self.decoded_bytes)} decoded, {placement}"
        logging.info(text)
        if to_terminal:
            console.say(f"    {text}")


def read_images(images: StoredImages, channels: int) -> list[np.ndarray]:
    """Decodes images, uint8 [H, W, channels], in the order of their sources."""
    return [image for _, image in sorted(images.read(channels), key=lambda item: item[0])]


def read_moments(transform_graph: str) -> np.ndarray:
    """Evaluates the patch moments in the Transform graph, float64 [1 + p, 1 + p]."""
    transform = tft.TFTransformOutput(transform_graph)
    blank = tf.io.encode_png(tf.zeros((1, 1, 1), tf.uint8))
    features = transform.transform_raw_features({c.IMAGE_ENCODED: blank[None, None]})
    flat = features[PATCH_MOMENTS][0].numpy().astype(np.float64)
    side = int(len(flat) ** 0.5)
    return flat.reshape(side, side)


def digest(settings: str, paths: Iterable[str | Path]) -> str:
    """A digest of settings and the contents of files, in 32 hexadecimal digits."""
    parts = (settings.encode(), *map(storage.sha256_of_file, paths))
    return storage.sha256_of_parts(parts)[:32]
