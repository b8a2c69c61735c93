"""Checks images shard by shard, and writes the results of each shard to a file."""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import tensorflow as tf

from keras_ae import storage
from keras_ae.concurrency import map_in_threads
from keras_ae.datasets.images.decoding import decode_bytes
from keras_ae.datasets.images.decoding_header import CORRUPT
from keras_ae.datasets.images.levels import OWN_RANGE, White
from keras_ae.datasets.images.looks import SAMPLED_SIDE, THUMBNAIL_BYTES, look_at, views_of
from keras_ae.datasets.images.normalize import examine
from keras_ae.datasets.images.quartiles import measure
from keras_ae.datasets.sources.base import Record, Shard, Source
from keras_ae.errors import DataError

CONSTANT = "one colour"
"""Note on an image whose pixels are all equal."""
MAX_THREADS = 8
BATCH_IMAGES, BATCH_BYTES = 64, 2**20
"""Limits of a batch, the work of one call in a thread: a call costs more than decoding a small
image."""

T = TypeVar("T")


class Check(NamedTuple):
    """The result of checking an image.

    Attributes:
        source: its key.
        digest: SHA-256 of its content, see `digest`.
        size: size of its data in bytes.
        fault: why it cannot be used; empty for a good image.
        split: its split if the source has fixed splits.
        measures: results of `keras_ae.datasets.images.quartiles.measure`; empty for a bad image.
        not_read: the kind by which a file is counted that turned out to be no image; empty for an
            image. Such a file has a fault, too, but is not quarantined.
        white: white by which a 16-bit image was scaled when it was measured; 0 for other images.
        notes: see `keras_ae.datasets.images.normalize.Normalized`; and `CONSTANT`.
        side: pixels of its shorter side; 0 for a bad image.
        look: its `keras_ae.datasets.images.looks.Look`; empty if it is not compared with others.
        stored: its `keras_ae.datasets.images.headers.Header` if the data is stored unchanged; empty
            if it is converted.
        extremes: lowest and highest level of a 16-bit image, 0 to 255, scaled by `white`.
    """

    source: str
    digest: str
    size: int
    fault: str
    split: str | None
    measures: Sequence[float] = ()
    not_read: str = ""
    white: int = 0
    notes: Sequence[str] = ()
    side: int = 0
    look: Sequence[int] = ()
    stored: tuple[str, int, int] | tuple[()] = ()
    extremes: Sequence[int] = ()


def check_shard(
    shard_index: int,
    shard: Shard,
    source: Source,
    channels: int,
    work_folder: str,
    white: White = OWN_RANGE,
    *,
    compare: bool = True,
) -> list[Check]:
    """Reads and checks the images of a shard, and writes results and thumbnails to files.

    Args:
        shard_index: index of the shard, which names the file.
        shard, source: the images.
        channels: 1 or 3.
        work_folder: path or URI of the folder of the files.
        white: see `check_record`.
        compare: whether to look for copies by what images look like.
    """
    compare = compare and source.has_whole_pictures
    results = list(
        map_on_cores(
            lambda record: check_record(record, channels, white, compare=compare),
            source.read(shard),
        )
    )
    checks = [check for check, _ in results]
    lines = "".join(json.dumps(check) + "\n" for check in checks)
    storage.write_file(_file(work_folder, shard_index), lines.encode())
    if compare:
        thumbnails = b"".join(thumbnail.ljust(THUMBNAIL_BYTES, b"\0") for _, thumbnail in results)
        storage.write_file(thumbnails_file(work_folder, shard_index), thumbnails)
    return checks


def read_checks(shard_index: int, work_folder: str) -> list[Check]:
    """Reads the results that `check_shard` wrote."""
    with storage.open_file(_file(work_folder, shard_index)) as file:
        return [Check(*json.loads(line)) for line in file]


def check_record(
    record: Record, channels: int, white: White = OWN_RANGE, *, compare: bool = True
) -> tuple[Check, bytes]:
    """Decodes and measures an image.

    The decoder is TensorFlow, as in all later steps, because it is stricter than Pillow. Only what
    is stored as a PNG that ingest encodes is decoded by Pillow.

    Args:
        record: the image.
        channels: 1 or 3.
        white: the levels that become 255. By default each 16-bit image is measured in its own
            range, since that of all images is not known yet.
        compare: whether to make `Check.look` and the thumbnail.

    Returns:
        The check and the thumbnail, which may be empty.
    """
    if record.not_read:
        return Check(record.key, "", 0, "no image", None, not_read=record.not_read), b""
    fault = record.fault
    measures: Sequence[float] = ()
    own_white, side, notes = 0, 0, tuple[str, ...]()
    look, thumbnail, header, extremes = None, b"", None, tuple[int, ...]()
    if not fault:
        try:
            stored, header, own_white, notes, converted = examine(
                record.data, channels, white=white, check_body=False, encode=False
            )
            header = header if stored is record.data else None
            pixels = decode_bytes(stored, channels) if converted is None else converted
            # The views of larger images have fewer pixels.
            views = views_of(pixels) if compare and max(pixels.shape) <= SAMPLED_SIDE else None
            measures = measure(pixels, views and views.levels)
            side = min(pixels.shape[:2])
            if own_white:
                extremes = int(pixels.min()), int(pixels.max())
            # Without this condition, it would take as long as measuring.
            if measures[2] == 0 and (pixels == pixels[:1, :1]).all():
                notes = (*notes, CONSTANT)
            if compare:
                look, small = look_at(pixels, record.data, views)
                thumbnail = small.tobytes()
        except DataError as error:
            fault = str(error)
        except tf.errors.InvalidArgumentError:
            fault = CORRUPT
    check = Check(
        record.key,
        digest(record),
        len(record.data),
        fault,
        record.split,
        measures,
        white=own_white,
        notes=notes,
        side=side,
        look=look or (),
        stored=header or (),
        extremes=extremes,
    )
    return check, thumbnail


def digest(record: Record) -> str:
    """SHA-256 of the data of an image or of its identity, in hexadecimal digits."""
    return hashlib.sha256(record.identity or record.data).hexdigest()


def map_on_cores(function: Callable[[Record], T], records: Iterable[Record]) -> Iterator[T]:
    """Applies a function to records on all cores and yields the results in order.

    Only a few batches are in memory at a time. Small images are processed in one thread, because
    most of their time is in Python code, where threads wait for each other.
    """
    batches = _batches(records)
    first = next(batches, [])
    small = sum(len(record.data) for record in first) < BATCH_BYTES
    threads = 1 if small else min(MAX_THREADS, len(os.sched_getaffinity(0)))
    results = map_in_threads(
        lambda batch: [function(record) for record in batch],
        itertools.chain([first], batches),
        threads,
    )
    return itertools.chain.from_iterable(results)


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.data)
        if len(batch) == BATCH_IMAGES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def thumbnails_file(work_folder: str, shard_index: int) -> str:
    """The file with the thumbnails of a shard, `THUMBNAIL_BYTES` for each image."""
    return f"{work_folder}/thumbnails-{shard_index:05d}"


def _file(work_folder: str, shard_index: int) -> str:
    return f"{work_folder}/checks-{shard_index:05d}.jsonl"
