"""The examples of a file in batches of one size and bounded memory, and their pixels."""

import gzip
import hashlib
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

import tensorflow as tf

from keras_ae import contract as c
from keras_ae import storage
from keras_ae.datasets.images.decoding import CORRUPT, decode_stored
from keras_ae.errors import DataError

BATCH = 1 << 20
"""Pixels of the images that are held and scored together, or one image if it has more."""
DIGEST = 16
"""Hexadecimal digits of SHA-256 that stand for an image's encoded bytes."""


class Example(NamedTuple):
    """An image of a file.

    Attributes:
        encoded: PNG or JPEG, as ingest stores it.
        source: its name.
        height, width: in pixels.
        slices: by what is sliced, the slice it is in; "none" in examples without slices.
    """

    encoded: bytes
    source: str
    height: int
    width: int
    slices: dict[str, str]

    @property
    def digest(self) -> str:
        """The first digits of SHA-256 of the encoded image."""
        return digest_of(self.encoded)


def digest_of(encoded: bytes) -> str:
    """The first digits of the SHA-256 of some bytes."""
    return hashlib.sha256(encoded).hexdigest()[:DIGEST]


def read(file: str) -> Iterator[list[Example]]:
    """Reads a file of tf.Examples.

    Args:
        file: GZIP TFRecord.

    Yields:
        Images of one size, at most `BATCH` pixels together or one image.

    Raises:
        DataError: if the file is truncated.
    """
    waiting: dict[tuple[int, int], list[Example]] = {}
    pixels = 0
    for example in map(_example, _records(file)):
        size = example.height, example.width
        if pixels + size[0] * size[1] > BATCH:
            yield from waiting.values()
            waiting, pixels = {}, 0
        waiting.setdefault(size, []).append(example)
        pixels += size[0] * size[1]
    yield from waiting.values()


def pixels(batch: list[Example], channels: int) -> Any:
    """Decodes images of one size: uint8 tensor [N, H, W, channels].

    Raises:
        DataError: with the source of the first one that cannot be decoded.
    """
    try:
        return _decode(channels)(tf.constant([example.encoded for example in batch]))
    except tf.errors.InvalidArgumentError as error:
        raise DataError(_fault(batch, channels)) from error


def _records(file: str) -> Iterator[bytes]:
    """The records of a TFRecord: a length, its checksum, so many bytes, their checksum.

    Not through `tf.data`, which takes 20 times as long to hand over a small record. The checksums
    are left to GZIP, which has its own.
    """
    with storage.open_file(file) as packed, gzip.open(packed) as records:
        try:
            while head := records.read(12):
                (length,) = struct.unpack("<Q", head[:8])
                yield records.read(length)
                records.read(4)
        except (EOFError, OSError, struct.error) as error:
            raise DataError(f"{file}: cannot be read: {error}") from error


def _example(record: bytes) -> Example:
    features = tf.train.Example.FromString(record).features.feature

    def text(name: str) -> str:
        return features[name].bytes_list.value[0].decode()

    height, width = (features[n].int64_list.value[0] for n in (c.IMAGE_HEIGHT, c.IMAGE_WIDTH))
    slices = {
        by: text(c.SLICE_PREFIX + by) if c.SLICE_PREFIX + by in features else c.NO_SLICE
        for by in c.SLICES
    }
    encoded = features[c.IMAGE_ENCODED].bytes_list.value[0]
    return Example(encoded, text(c.IMAGE_SOURCE), height, width, slices)


@cache
def _decode(channels: int) -> Any:
    def decode(encoded: Any) -> Any:
        spec = tf.TensorSpec((None, None, channels), tf.uint8)
        return tf.map_fn(
            lambda data: decode_stored(data, channels), encoded, fn_output_signature=spec
        )

    spec = tf.TensorSpec((None,), tf.string)
    return tf.function(decode, input_signature=[spec], autograph=False)


def _fault(batch: Iterable[Example], channels: int) -> str:
    for example in batch:
        try:
            decode_stored(tf.constant(example.encoded), channels)
        except tf.errors.InvalidArgumentError:
            return f"{example.source}: {CORRUPT}"
    raise DataError("images of one size in the examples are not when they are decoded")
