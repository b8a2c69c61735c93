"""What Trainer and Tuner read: the tiles, and the patch moments from the Transform graph."""

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
    """The training images, in memory where they fit there when they are decoded.

    Args:
        patterns: files of GZIP TFRecords.
        channels: 1 or 3, as the images are stored.
        limit: bytes of decoded images that are held in memory; None for half of the machine's.

    Attributes:
        decoded_bytes: what all images take when they are decoded.
        streamed: whether that is above the limit.
    """

    def __init__(self, patterns: list[str], channels: int, limit: int | None):
        self._stored, self._channels = StoredImages(patterns), channels
        self._limit = memory.default_limit() if limit is None else limit
        self.decoded_bytes = self._stored.decoded_bytes(channels)
        self.streamed = self.decoded_bytes > self._limit

    def tiles(self, stride: int, batch_size: int, seed: int) -> TileSource:
        """The tiles of these images, as `keras_ae.datasets.tiles.Tiles` takes its arguments."""
        if self.streamed:
            return StreamedTiles(
                self._stored, self._channels, stride=stride, batch_size=batch_size, seed=seed
            )
        return Tiles(self._images, stride=stride, batch_size=batch_size, seed=seed)

    @cached_property
    def _images(self) -> list[np.ndarray]:
        return read_images(self._stored, self._channels)

    def tell(self, *, loudly: bool) -> None:
        """Says where the images are, to the terminal or to the log only."""
        over = f"more than {storage.format_bytes(self._limit)}: streamed"
        where = over if self.streamed else "in memory"
        text = f"training images: {storage.format_bytes(self.decoded_bytes)} decoded, {where}"
        logging.info(text)
        if loudly:
            console.say(f"    {text}")


def read_images(images: StoredImages, channels: int) -> list[np.ndarray]:
    """Decodes images, uint8 [H, W, channels], in the order of their sources."""
    return [image for _, image in sorted(images.read(channels), key=lambda item: item[0])]


def read_moments(transform_graph: str) -> np.ndarray:
    """Evaluates the patch moments once from the Transform graph, float64 [1 + p, 1 + p]."""
    transform = tft.TFTransformOutput(transform_graph)
    blank = tf.io.encode_png(tf.zeros((1, 1, 1), tf.uint8))
    features = transform.transform_raw_features({c.IMAGE_ENCODED: blank[None, None]})
    flat = features[PATCH_MOMENTS][0].numpy().astype(np.float64)
    side = int(len(flat) ** 0.5)
    return flat.reshape(side, side)


def digest(settings: str, paths: Iterable[str | Path]) -> str:
    """Names settings and the contents of files, in 32 hexadecimal digits."""
    parts = (settings.encode(), *map(storage.sha256_of_file, paths))
    return storage.sha256_of_parts(parts)[:32]
