"""Examples written shard by shard, each split to files of its own."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import Any

import tensorflow as tf

from keras_ae import contract as c
from keras_ae import storage
from keras_ae.datasets.images.normalize import normalize
from keras_ae.datasets.images.quartiles import QUARTERS
from keras_ae.datasets.sources.base import Record, Shard, Source
from keras_ae.errors import DataError
from pipeline.components.image_example_gen.checks import Check, checks_of, digest, spread
from pipeline.components.image_example_gen.splits import Plan

FILE_BYTES = 128 * 2**20
"""Examples of a file, about."""
STORED_FROM = 16 * 2**10
"""Mean bytes of an image from which GZIP keeps bytes as they are: images are compressed already.

Where they are small, most of a JPEG is tables that are the same in each.
"""


def write_shard(
    number: int,
    shard: Shard,
    source: Source,
    channels: int,
    plan: Plan,
    folders: Mapping[str, str],
    work: str,
) -> None:
    """Writes the good images of a shard as GZIP TFRecords, the same whoever writes them.

    Args:
        number: of the shard.
        shard, source: where the images are.
        channels: 1 or 3.
        plan: where they go.
        folders: of each split, a path or URI.
        work: folder with the checks of the shard, also for files that are not complete.

    Raises:
        DataError: if an image is not the one that was checked.
    """
    good = {check.source: check for check in checks_of(number, work) if not check.fault}

    def example(record: Record) -> tuple[str, bytes]:
        check = good[record.key]
        if digest(record.data) != check.digest:
            raise DataError(f"{record.key} changed while the images were read; run again")
        split, quarters = plan.place(check)
        return split, to_example(record, channels, quarters, proven=True)

    with _files(number, folders, work, _level(good)) as files:
        written = 0
        for split, record in spread(example, (r for r in source.read(shard) if r.key in good)):
            files[split].write(record)
            written += 1
        if written != len(good):
            raise DataError("images went away while they were read; run again")


class _SplitFiles:
    """The files of one split and shard, each of about `FILE_BYTES`, published when complete."""

    def __init__(self, folder: str, number: int, work: str, level: int):
        self._folder, self._number, self._work = folder, number, work
        self._options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=level)
        self._open: tuple[str, tf.io.TFRecordWriter] | None = None
        self._held = self._complete = 0

    def write(self, record: bytes) -> None:
        if self._open is None:
            path = f"{self._work}/{uuid.uuid4().hex}.gz"
            self._open = path, tf.io.TFRecordWriter(path, self._options)
        self._open[1].write(record)
        self._held += len(record)
        if self._held >= FILE_BYTES:
            self.publish()

    def abandon(self) -> None:
        if self._open is not None:
            with suppress(tf.errors.OpError):
                self._open[1].close()

    def publish(self) -> None:
        if self._open is None:
            return
        path, writer = self._open
        writer.close()
        name = f"data_tfrecord-{self._number:05d}-{self._complete:03d}.gz"
        storage.make_folder(self._folder)
        storage.rename(path, f"{self._folder}/{name}")
        self._open, self._held, self._complete = None, 0, self._complete + 1


@contextmanager
def _files(
    number: int, folders: Mapping[str, str], work: str, level: int
) -> Iterator[dict[str, _SplitFiles]]:
    files = {name: _SplitFiles(folder, number, work, level) for name, folder in folders.items()}
    try:
        yield files
        for of_split in files.values():
            of_split.publish()
    except BaseException:
        for of_split in files.values():
            of_split.abandon()
        raise


def _level(good: Mapping[str, Check]) -> int:
    """How hard GZIP tries, 0 to 9."""
    mean = sum(check.size for check in good.values()) / max(1, len(good))
    return 0 if mean >= STORED_FROM else 1


def to_example(
    record: Record,
    channels: int,
    quarters: Sequence[str] = (c.NO_SLICE,) * len(QUARTERS),
    *,
    proven: bool = False,
) -> bytes:
    """A record as a serialized tf.Example with the features named in the contract.

    Args:
        record: of an image that can be decoded.
        channels: 1 or 3.
        quarters: values of the slices size, brightness and detail.
        proven: whether it was decoded before.
    """
    data, header = normalize(record.data, channels, proven=proven)
    features: dict[str, Any] = {
        c.IMAGE_ENCODED: data,
        c.IMAGE_FORMAT: header.format.encode(),
        c.IMAGE_HEIGHT: header.height,
        c.IMAGE_WIDTH: header.width,
        c.IMAGE_SOURCE: record.key.encode(),
    }
    if record.label is not None:
        features[c.IMAGE_LABEL] = record.label.encode()
    slices = (record.label or c.NO_SLICE, _first_folder(record.key), *quarters)
    features |= {c.SLICE_PREFIX + name: text.encode() for name, text in zip(c.SLICES, slices)}
    example = tf.train.Example()
    # In place: each message that is put into another one is copied, megabytes of an image as well.
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.bytes_list.value.append(value)
    # Otherwise the order of features is another one in each process.
    return example.SerializeToString(deterministic=True)


def _first_folder(key: str) -> str:
    folders = [part for part in PurePosixPath(key).parts[:-1] if part not in ("/", "..")]
    return folders[0] if folders else c.NO_SLICE
