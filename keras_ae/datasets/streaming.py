"""Training tiles from images that do not fit in memory: decoded anew in each epoch."""

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_ae import contract as c
from keras_ae import storage
from keras_ae.datasets.images.decoding import decode_stored
from keras_ae.datasets.tiles import (
    CROPS,
    Augmentation,
    batch_sizes,
    cut,
    draw,
    reflect_pad,
    tile_counts,
    tile_size,
)
from keras_ae.errors import DataError
from keras_ae.presets import TRAIN_TILE

BUFFER_BYTES = 256 * 2**20
"""Tiles that wait to be drawn at random: 21,845 of 64x64 RGB."""
DECODED_BYTES = 512 * 2**20
"""Decoded images that wait to be cut, or two if they are larger."""
CHUNK_BYTES = 8 * 2**20
"""Decoded images that one call decodes, or one if it is larger."""
IMAGES_AT_ONCE = 64
FILES_AT_ONCE = 8

_RECORDS_IN_A_FILE = 2**32


class StoredImages:
    """The encoded images in GZIP TFRecords of tf.Examples, numbered in the order of their sources.

    One pass reads sources and sizes of all images; nothing is decoded.

    Args:
        patterns: paths of files, or glob patterns.

    Attributes:
        sides: int64 [n, 2], height and width of each image, by its number.
    """

    def __init__(self, patterns: Sequence[str]):
        import tensorflow as tf

        self._files = storage.glob(*patterns)
        spec = {
            c.IMAGE_SOURCE: tf.io.FixedLenFeature((), tf.string),
            c.IMAGE_HEIGHT: tf.io.FixedLenFeature((), tf.int64),
            c.IMAGE_WIDTH: tf.io.FixedLenFeature((), tf.int64),
        }

        def parse(place: Any, record: Any) -> tuple[Any, ...]:
            example = tf.io.parse_single_example(record, spec)
            sides = tf.stack([example[c.IMAGE_HEIGHT], example[c.IMAGE_WIDTH]])
            return place, example[c.IMAGE_SOURCE], sides

        facts = self._records(np.arange(len(self._files))).map(parse, num_parallel_calls=_cores())
        parts = [*facts.batch(1024).as_numpy_iterator()]
        places = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
        sources = [source for part in parts for source in part[1]]
        sides = np.concatenate([np.zeros((0, 2), np.int64), *(part[2] for part in parts)])
        # Of images with one source the earlier in the files comes first.
        order = sorted(range(len(places)), key=lambda i: (sources[i], places[i]))
        self.sides = sides[order]
        self._by_place = np.argsort(places[order])
        self._places = places[order][self._by_place]

    def __len__(self) -> int:
        return len(self.sides)

    def decoded_bytes(self, channels: int) -> int:
        """Memory that all images take when they are decoded."""
        return int(self.sides.prod(axis=1).sum()) * channels

    def read(
        self, channels: int, rng: np.random.Generator | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the number and the pixels, uint8 [H, W, channels], of each image once.

        A bounded number of images is decoded ahead, on all cores.

        Args:
            channels: 1 or 3, as the images are stored.
            rng: draws the order of the files; None leaves it as it is.
        """
        order = np.arange(len(self._files))
        if rng is not None:
            rng.shuffle(order)
        largest = int(self.sides.prod(axis=1).max(initial=1)) * channels
        # A call into Python takes longer than decoding a small image.
        together = max(1, min(IMAGES_AT_ONCE, CHUNK_BYTES // largest))
        waiting = max(2, min(2 * _cores(), DECODED_BYTES // (together * largest)))
        chunks = self._records(order).batch(together, drop_remainder=together == 1)
        chunks = chunks.map(
            lambda places, records: _decode(places, records, channels), num_parallel_calls=waiting
        )
        for places, pixels in chunks.as_numpy_iterator():
            numbers = self._by_place[np.searchsorted(self._places, places)]
            sides = self.sides[numbers]
            ends = np.cumsum(sides.prod(axis=1) * channels)
            for number, side, image in zip(numbers, sides, np.split(pixels, ends[:-1])):
                yield int(number), image.reshape(*side, channels)

    def _records(self, order: np.ndarray) -> Any:
        """A dataset of the place of each record among all, int64, and the record itself."""
        import tensorflow as tf

        def read(number: Any, path: Any) -> Any:
            first = number * _RECORDS_IN_A_FILE
            places = tf.data.Dataset.range(first, first + _RECORDS_IN_A_FILE)
            return tf.data.Dataset.zip(places, tf.data.TFRecordDataset(path, "GZIP"))

        paths = tf.constant([self._files[number] for number in order], tf.string)
        files = tf.data.Dataset.from_tensor_slices((tf.constant(order, tf.int64), paths))
        options = tf.data.Options()
        options.deterministic = True
        # It would add buffers of decoded images, as large as half of the memory.
        options.autotune.enabled = False
        return files.interleave(read, cycle_length=FILES_AT_ONCE).with_options(options)


class StreamedTiles:
    """The tiles of `Tiles`, cut from images that are decoded anew in each epoch.

    An epoch holds the very tiles that `Tiles` makes of the same images in the order of their
    sources, in another order: files are shuffled, some are read at once, and tiles pass through a
    buffer that they leave at random. It follows from files, seed and epoch alone.

    Args:
        images: where the images are.
        channels: 1 or 3, as the images are stored.
        stride, size, crops, batch_size, seed: as for `Tiles`.
        buffer_bytes: of tiles that are shuffled.

    Raises:
        DataError: if there is no image.
    """

    placement = "streamed"

    def __init__(
        self,
        images: StoredImages,
        channels: int,
        *,
        stride: int,
        size: int = TRAIN_TILE,
        crops: int = CROPS,
        batch_size: int = 32,
        seed: int = 0,
        buffer_bytes: int = BUFFER_BYTES,
    ):
        if not len(images):
            raise DataError("training needs at least one image; got none")
        self.size = tile_size(images.sides, stride, size)
        counts = tile_counts(images.sides, self.size, crops)
        self._ends = np.cumsum(counts)
        self._images, self._channels = images, channels
        self._batch_size, self._seed = batch_size, seed
        held = max(1, buffer_bytes // (self.size * self.size * channels))
        self._held = min(held, len(self))

    def __len__(self) -> int:
        """Tiles in an epoch."""
        return int(self._ends[-1])

    @property
    def batch_sizes(self) -> list[int]:
        """Tiles in each batch of an epoch, as `Tiles.batch_sizes`."""
        return batch_sizes(len(self), self._batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[np.ndarray]:
        """Yields the batches of an epoch from number `first`, uint8 [n, size, size, C].

        What comes before is decoded all the same: what is drawn later depends on it.
        """
        draws = draw(len(self), self._channels, self._seed, epoch)
        # A stream of its own beside that of `draw`, for which a third 0 would not do.
        rng = np.random.default_rng((self._seed, epoch, 1))
        held = np.empty((self._held, self.size, self.size, self._channels), np.uint8)
        tiles = _shuffled(self._cut(draws, rng), held, rng)
        sizes = self.batch_sizes
        skipped = sum(sizes[:first])
        tiles = itertools.islice(tiles, skipped, None)
        for count in sizes[first:]:
            yield np.stack(list(itertools.islice(tiles, count)))

    def _cut(self, draws: Augmentation, rng: np.random.Generator) -> Iterator[np.ndarray]:
        for number, image in self._images.read(self._channels, rng):
            image = reflect_pad(image, self.size)
            first = self._ends[number - 1] if number else 0
            for tile in range(first, self._ends[number]):
                yield cut(image, self.size, *(part[tile] for part in draws[:-1]))


def _decode(places: Any, records: Any, channels: int) -> tuple[Any, Any]:
    """Decodes serialized examples, string [n], in a graph with autograph.

    Returns:
        The places, and the pixels of one image after the other, uint8 [sum of H * W * channels].
    """
    import tensorflow as tf

    spec = {c.IMAGE_ENCODED: tf.io.FixedLenFeature((), tf.string)}
    encoded = tf.io.parse_example(records, spec)[c.IMAGE_ENCODED]
    if encoded.shape[0] == 1:
        # Nothing is copied where images are large and come alone.
        return places, tf.reshape(decode_stored(encoded[0], channels), (-1,))
    count = tf.size(encoded)
    pixels = tf.TensorArray(tf.uint8, count, element_shape=(None,), infer_shape=False)
    for i in tf.range(count):
        pixels = pixels.write(i, tf.reshape(decode_stored(encoded[i], channels), (-1,)))
    return places, pixels.concat()


def _shuffled(
    tiles: Iterator[np.ndarray], held: np.ndarray, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Keeps as many tiles as `held` has places, and gives a random one for each that comes."""
    for place, tile in zip(held, tiles):
        place[...] = tile
    for tile in tiles:
        at = rng.integers(len(held))
        leaving = held[at].copy()
        held[at] = tile
        yield leaving
    for at in rng.permutation(len(held)):
        yield held[at]


def _cores() -> int:
    return os.cpu_count() or 1
