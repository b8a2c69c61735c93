"""Training tiles of images that do not fit in memory and are decoded again in each epoch."""

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_ae import contract as c
from keras_ae import storage
from keras_ae.datasets.images.decoding import decode_stored
from keras_ae.datasets.tiles import (
    CROPS_PER_IMAGE,
    Augmentation,
    batch_sizes,
    crop,
    draw_augmentation,
    reflect_pad,
    tile_counts,
    tile_size,
)
from keras_ae.errors import DataError
from keras_ae.presets import TRAIN_TILE

SHUFFLE_BUFFER_BYTES = 256 * 2**20
"""Size of the shuffle buffer: 21,845 RGB tiles of 64x64."""
PREFETCH_BYTES = 512 * 2**20
"""Decoded images that wait for cropping; at least two chunks, whatever their size."""
CHUNK_BYTES = 8 * 2**20
"""Decoded images that one call decodes together; at least one image."""
MAX_CHUNK_IMAGES = 64
INTERLEAVED_FILES = 8

_MAX_RECORDS_PER_FILE = 2**32
"""More than any file has, so that file and position give each record a unique ID."""


class StoredImages:
    """The encoded images in GZIP TFRecords of tf.Examples, indexed in the order of their sources.

    The constructor reads the sources and sizes of all images in one pass and decodes nothing.

    Args:
        patterns: paths of files, or glob patterns.

    Attributes:
        sides: int64 [n, 2], height and width of each image, by its index.
    """

    def __init__(self, patterns: Sequence[str]):
        import tensorflow as tf

        self._files = storage.glob(*patterns)
        spec = {
            c.IMAGE_SOURCE: tf.io.FixedLenFeature((), tf.string),
            c.IMAGE_HEIGHT: tf.io.FixedLenFeature((), tf.int64),
            c.IMAGE_WIDTH: tf.io.FixedLenFeature((), tf.int64),
        }

        def parse(record_id: Any, record: Any) -> tuple[Any, ...]:
            example = tf.io.parse_single_example(record, spec)
            sides = tf.stack([example[c.IMAGE_HEIGHT], example[c.IMAGE_WIDTH]])
            return record_id, example[c.IMAGE_SOURCE], sides

        headers = self._records(np.arange(len(self._files))).map(parse, num_parallel_calls=_cores())
        batches = [*headers.batch(1024).as_numpy_iterator()]
        ids = np.concatenate([np.zeros(0, np.int64), *(batch[0] for batch in batches)])
        sources = [source for batch in batches for source in batch[1]]
        sides = np.concatenate([np.zeros((0, 2), np.int64), *(batch[2] for batch in batches)])
        # Images with the same source are ordered by file and position.
        order = sorted(range(len(ids)), key=lambda i: (sources[i], ids[i]))
        self.sides = sides[order]
        # The index of the image of each record, and the sorted IDs by which `read` finds it.
        self._index_by_id = np.argsort(ids[order])
        self._ids = ids[order][self._index_by_id]

    def __len__(self) -> int:
        return len(self.sides)

    def decoded_bytes(self, channels: int) -> int:
        """The size of all images when decoded."""
        return int(self.sides.prod(axis=1).sum()) * channels

    def read(
        self, channels: int, rng: np.random.Generator | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the index and the pixels, uint8 [H, W, channels], of each image once.

        All cores decode a bounded number of images ahead.

        Args:
            channels: 1 or 3, as the images are stored.
            rng: shuffles the order of the files; None keeps it.
        """
        order = np.arange(len(self._files))
        if rng is not None:
            rng.shuffle(order)
        largest = int(self.sides.prod(axis=1).max(initial=1)) * channels
        # Passing an image to Python takes longer than decoding a small one, so decode in chunks.
        chunk_images = max(1, min(MAX_CHUNK_IMAGES, CHUNK_BYTES // largest))
        chunks_ahead = max(2, min(2 * _cores(), PREFETCH_BYTES // (chunk_images * largest)))
        chunks = self._records(order).batch(chunk_images, drop_remainder=chunk_images == 1)
        chunks = chunks.map(
            lambda ids, records: _decode(ids, records, channels), num_parallel_calls=chunks_ahead
        )
        for ids, pixels in chunks.as_numpy_iterator():
            indices = self._index_by_id[np.searchsorted(self._ids, ids)]
            sides = self.sides[indices]
            ends = np.cumsum(sides.prod(axis=1) * channels)
            for index, side, image in zip(indices, sides, np.split(pixels, ends[:-1])):
                yield int(index), image.reshape(*side, channels)

    def _records(self, order: np.ndarray) -> Any:
        """A dataset of the ID, int64, and the data of each record, with the files in this order."""
        import tensorflow as tf

        def read(index: Any, path: Any) -> Any:
            first = index * _MAX_RECORDS_PER_FILE
            ids = tf.data.Dataset.range(first, first + _MAX_RECORDS_PER_FILE)
            return tf.data.Dataset.zip(ids, tf.data.TFRecordDataset(path, "GZIP"))

        paths = tf.constant([self._files[index] for index in order], tf.string)
        files = tf.data.Dataset.from_tensor_slices((tf.constant(order, tf.int64), paths))
        options = tf.data.Options()
        options.deterministic = True
        # Autotuning would add buffers of decoded images of up to half of the memory.
        options.autotune.enabled = False
        return files.interleave(read, cycle_length=INTERLEAVED_FILES).with_options(options)


class StreamedTiles:
    """The same tiles as `Tiles`, from images that are decoded again in each epoch.

    An epoch has exactly the tiles of `Tiles(images in the order of their sources)`, but in a
    different order: the files are shuffled, several are read in turn, and the tiles pass through a
    shuffle buffer. The order depends only on the files, the seed and the epoch.

    Args:
        images: the encoded images.
        channels: 1 or 3, as the images are stored.
        stride, size, crops, batch_size, seed: as for `Tiles`.
        buffer_bytes: size of the shuffle buffer.

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
        crops: int = CROPS_PER_IMAGE,
        batch_size: int = 32,
        seed: int = 0,
        buffer_bytes: int = SHUFFLE_BUFFER_BYTES,
    ):
        if not len(images):
            raise DataError("training needs at least one image; got none")
        self.size = tile_size(images.sides, stride, size)
        counts = tile_counts(images.sides, self.size, crops)
        self._ends = np.cumsum(counts)
        self._images, self._channels = images, channels
        self._batch_size, self._seed = batch_size, seed
        buffer_tiles = max(1, buffer_bytes // (self.size * self.size * channels))
        self._buffer_tiles = min(buffer_tiles, len(self))

    def __len__(self) -> int:
        """The number of tiles in an epoch."""
        return int(self._ends[-1])

    @property
    def batch_sizes(self) -> list[int]:
        """The number of tiles in each batch of an epoch; see `Tiles.batch_sizes`."""
        return batch_sizes(len(self), self._batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[np.ndarray]:
        """Yields the batches of an epoch from index `first`, uint8 [n, size, size, C].

        Earlier batches are decoded too, because the shuffle buffer depends on them.
        """
        augmentation = draw_augmentation(len(self), self._channels, self._seed, epoch)
        # A stream independent of that of `draw_augmentation`. NumPy pads seeds with zeros, so that
        # a third element of 0 would give the same stream.
        rng = np.random.default_rng((self._seed, epoch, 1))
        buffer = np.empty((self._buffer_tiles, self.size, self.size, self._channels), np.uint8)
        tiles = _shuffle(self._crop(augmentation, rng), buffer, rng)
        sizes = self.batch_sizes
        tiles = itertools.islice(tiles, sum(sizes[:first]), None)
        for count in sizes[first:]:
            yield np.stack(list(itertools.islice(tiles, count)))

    def _crop(self, augmentation: Augmentation, rng: np.random.Generator) -> Iterator[np.ndarray]:
        for index, image in self._images.read(self._channels, rng):
            image = reflect_pad(image, self.size)
            first = self._ends[index - 1] if index else 0
            for tile in range(first, self._ends[index]):
                yield crop(image, self.size, augmentation, tile)


def _decode(ids: Any, records: Any, channels: int) -> tuple[Any, Any]:
    """Decodes serialized examples, string [n], in a graph that autograph converts.

    Returns:
        The IDs, and the concatenated pixels of the images, uint8 [sum of H * W * channels].
    """
    import tensorflow as tf

    spec = {c.IMAGE_ENCODED: tf.io.FixedLenFeature((), tf.string)}
    encoded = tf.io.parse_example(records, spec)[c.IMAGE_ENCODED]
    if encoded.shape[0] == 1:
        # A large image is alone in its chunk, and this avoids copying it.
        return ids, tf.reshape(decode_stored(encoded[0], channels), (-1,))
    count = tf.size(encoded)
    pixels = tf.TensorArray(tf.uint8, count, element_shape=(None,), infer_shape=False)
    for i in tf.range(count):
        pixels = pixels.write(i, tf.reshape(decode_stored(encoded[i], channels), (-1,)))
    return ids, pixels.concat()


def _shuffle(
    tiles: Iterator[np.ndarray], buffer: np.ndarray, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Shuffles tiles in a buffer: each tile after the first ones replaces a random one."""
    for slot, tile in zip(buffer, tiles):
        slot[...] = tile
    for tile in tiles:
        index = rng.integers(len(buffer))
        replaced = buffer[index].copy()
        buffer[index] = tile
        yield replaced
    for index in rng.permutation(len(buffer)):
        yield buffer[index]


def _cores() -> int:
    return os.cpu_count() or 1
