"""Images checked shard by shard: what is found lies in a file for each shard."""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import tensorflow as tf

from keras_ae import storage
from keras_ae.concurrency import in_threads
from keras_ae.datasets.images.decoding import CORRUPT, decode_bytes
from keras_ae.datasets.images.normalize import normalize
from keras_ae.datasets.images.quartiles import measure
from keras_ae.datasets.sources.base import Record, Shard, Source
from keras_ae.errors import DataError

MOST_THREADS = 8
TOGETHER, TOGETHER_BYTES = 64, 2**20
"""Images that one thread takes at once: a call costs more than decoding a small image."""

T = TypeVar("T")


class Check(NamedTuple):
    """What is known of an image after it was read once.

    Attributes:
        source: its key.
        digest: SHA-256 of its bytes.
        size: of its bytes.
        fault: why it cannot be used; empty for a good image.
        split: where the source fixes it.
        measured: what `keras_ae.datasets.images.quartiles.measure` gave; empty for a bad image.
    """

    source: str
    digest: str
    size: int
    fault: str
    split: str | None
    measured: Sequence[float] = ()


def check_shard(number: int, shard: Shard, source: Source, channels: int, work: str) -> list[Check]:
    """Reads and decodes the images of a shard, and writes down what it finds.

    Args:
        number: of the shard.
        shard, source: where the images are.
        channels: 1 or 3.
        work: folder, a path or URI.
    """
    checks = list(spread(lambda record: check(record, channels), source.read(shard)))
    lines = "".join(json.dumps(found) + "\n" for found in checks)
    storage.write_file(_file(work, number), lines.encode())
    return checks


def checks_of(number: int, work: str) -> list[Check]:
    """What `check_shard` wrote down."""
    with storage.open_file(_file(work, number)) as file:
        return [Check(*json.loads(line)) for line in file]


def check(record: Record, channels: int) -> Check:
    """Decodes an image once, with TensorFlow as every later step, which is stricter than Pillow."""
    fault = record.fault
    measured: Sequence[float] = ()
    if not fault:
        try:
            stored, _ = normalize(record.data, channels, proven=True)
            measured = measure(decode_bytes(stored, channels))
        except DataError as error:
            fault = str(error)
        except tf.errors.InvalidArgumentError:
            fault = CORRUPT
    return Check(record.key, digest(record.data), len(record.data), fault, record.split, measured)


def digest(data: bytes) -> str:
    """SHA-256 of an image's bytes."""
    return hashlib.sha256(data).hexdigest()


def spread(work: Callable[[Record], T], records: Iterable[Record]) -> Iterator[T]:
    """Works on images on all cores of a worker, in their order, holding only a few at a time.

    Small images are worked on by one: what they take of Python threads only wait for.
    """
    parts = _parts(records)
    first = next(parts, [])
    small = sum(len(record.data) for record in first) < TOGETHER_BYTES
    threads = 1 if small else min(MOST_THREADS, len(os.sched_getaffinity(0)))
    every = itertools.chain([first], parts)
    some = in_threads(lambda part: [work(record) for record in part], every, threads)
    return itertools.chain.from_iterable(some)


def _parts(records: Iterable[Record]) -> Iterator[list[Record]]:
    part: list[Record] = []
    held = 0
    for record in records:
        part.append(record)
        held += len(record.data)
        if len(part) == TOGETHER or held >= TOGETHER_BYTES:
            yield part
            part, held = [], 0
    if part:
        yield part


def _file(work: str, number: int) -> str:
    return f"{work}/checks-{number:05d}.jsonl"
