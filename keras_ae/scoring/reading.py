"""Reads and decodes the examples of a file, in batches of one image size and bounded memory."""

import gzip
import hashlib
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

import tensorflow as tf

from keras_ae import contract as c
from keras_ae import storage
from keras_ae.datasets.images.decoding import decode_stored
from keras_ae.datasets.images.decoding_header import CORRUPT
from keras_ae.errors import DataError

MAX_BATCH_PIXELS = 1 << 20
"""Pixels of the images of a batch; a single image may have more."""
DIGEST_LENGTH = 16
"""Hexadecimal digits of SHA-256 that identify an encoded image."""


class Example(NamedTuple):
    """An image of a file of examples.

    Attributes:
        encoded: PNG or JPEG, as ingest stores it.
        source: name of the image.
        height, width: size in pixels.
        slices: by attribute, such as "label", its value; "none" in examples without slices.
        picture: name of the picture that it is one of several copies of; empty without copies.
    """

    encoded: bytes
    source: str
    height: int
    width: int
    slices: dict[str, str]
    picture: str = ""

    @property
    def digest(self) -> str:
        """The first digits of the SHA-256 of the encoded image."""
        return digest_of(self.encoded)


def digest_of(encoded: bytes) -> str:
    """The first digits of the SHA-256 of an encoded image."""
    return hashlib.sha256(encoded).hexdigest()[:DIGEST_LENGTH]


def read_batches(file: str) -> Iterator[list[Example]]:
    """Reads a GZIP TFRecord of tf.Examples in batches.

    A batch has images of one size, with at most `MAX_BATCH_PIXELS` pixels together, or one image.
    Raises DataError if the file is truncated.
    """
    waiting: dict[tuple[int, int], list[Example]] = {}
    pixel_count = 0
    for example in map(_example, _records(file)):
        pixels = example.height * example.width
        if pixel_count + pixels > MAX_BATCH_PIXELS:
            yield from waiting.values()
            waiting, pixel_count = {}, 0
        waiting.setdefault((example.height, example.width), []).append(example)
        pixel_count += pixels
    yield from waiting.values()


def read_examples(pattern: str) -> Iterator[Example]:
    """Yields the examples of all files that match a pattern, in the order of their batches."""
    for file in storage.glob(pattern):
        for batch in read_batches(file):
            yield from batch


def decode_batch(batch: list[Example], channels: int) -> Any:
    """Decodes images of one size to a uint8 tensor [N, H, W, channels].

    Raises DataError with the source of the first image that cannot be decoded.
    """
    try:
        return _decode(channels)(tf.constant([example.encoded for example in batch]))
    except tf.errors.InvalidArgumentError as error:
        raise DataError(_fault(batch, channels)) from error


def _records(file: str) -> Iterator[bytes]:
    """Yields the records of a TFRecord file.

    A record is a length, its checksum, the data, and their checksum. `tf.data` would take 20 times
    as long for small records. The checksums are skipped, because GZIP has its own.
    """
    with storage.open_file(file) as compressed, gzip.open(compressed) as records:
        try:
            while header := records.read(12):
                (length,) = struct.unpack("<Q", header[:8])
                yield records.read(length)
                records.read(4)
        except (EOFError, OSError, struct.error) as error:
            raise DataError(f"cannot read {file}: {error}") from error


def _example(record: bytes) -> Example:
    features = tf.train.Example.FromString(record).features.feature

    def text(name: str) -> str:
        decoded: str = features[name].bytes_list.value[0].decode()
        return decoded

    height, width = (features[n].int64_list.value[0] for n in (c.IMAGE_HEIGHT, c.IMAGE_WIDTH))
    slices = {
        by: text(c.SLICE_PREFIX + by) if c.SLICE_PREFIX + by in features else c.NO_SLICE
        for by in c.SLICES
    }
    encoded = features[c.IMAGE_ENCODED].bytes_list.value[0]
    picture = text(c.IMAGE_PICTURE) if c.IMAGE_PICTURE in features else ""
    return Example(encoded, text(c.IMAGE_SOURCE), height, width, slices, picture)


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
    raise DataError("images that have one size in the examples have different sizes after decoding")
