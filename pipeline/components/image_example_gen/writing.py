"""Writes examples shard by shard, to separate files for each split."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import Any

import tensorflow as tf

from keras_ae import contract as c
from keras_ae import storage
from keras_ae.datasets.images.headers import Header
from keras_ae.datasets.images.levels import DEFAULT_WHITE, White
from keras_ae.datasets.images.normalize import normalize
from keras_ae.datasets.images.quartiles import QUARTILES
from keras_ae.datasets.sources.base import Record, Shard, Source
from keras_ae.datasets.sources.splits import split_of
from keras_ae.errors import DataError
from pipeline.components.image_example_gen.checks import Check, digest, map_on_cores, read_checks
from pipeline.components.image_example_gen.splits import SplitPlan

FILE_BYTES = 128 * 2**20
"""Approximate size of the examples in a file."""
UNCOMPRESSED_FROM_BYTES = 16 * 2**10
"""Mean size of an image from which GZIP stores without compression: images are compressed already.

Small images are worth compressing, because most of a small JPEG is tables that all images share.
"""


def write_shard(
    shard_index: int,
    shard: Shard,
    source: Source,
    channels: int,
    plan: SplitPlan,
    folders: Mapping[str, str],
    work_folder: str,
) -> None:
    """Writes the good images of a shard as GZIP TFRecords, with the same bytes on every worker.

    Args:
        shard_index: index of the shard.
        shard, source: the images.
        channels: 1 or 3.
        plan: the split and the slices of each image.
        folders: path or URI of the folder of each split.
        work_folder: folder with the checks of the shard, and for incomplete files.

    Raises:
        DataError: if an image changed since it was checked.
    """
    good = {
        check.source: check
        for check in read_checks(shard_index, work_folder)
        if not check.fault and plan.split(check)
    }

    def example(record: Record) -> tuple[str, bytes]:
        check = good[record.key]
        if digest(record) != check.digest:
            raise DataError(f"{record.key} changed while the images were read; run again")
        split, quartiles = plan.assign(check)
        encoded = to_example(
            record,
            channels,
            quartiles,
            white=plan.white,
            picture=plan.pictures.get(check.digest),
            stored=Header(*check.stored) if check.stored else None,
            has_folders=source.has_folders,
        )
        return split or "", encoded

    with _open_files(shard_index, folders, work_folder, _compression_level(good)) as files:
        written = 0
        for split, record in map_on_cores(
            example, (r for r in source.read(shard) if r.key in good)
        ):
            files[split].write(record)
            written += 1
        if written != len(good):
            raise DataError("images were removed while they were read; run again")


class _SplitFiles:
    """The files of one split of a shard, each of about `FILE_BYTES`, published when complete."""

    def __init__(self, folder: str, shard_index: int, work_folder: str, level: int):
        self._folder, self._shard_index, self._work_folder = folder, shard_index, work_folder
        self._options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=level)
        self._open: tuple[str, tf.io.TFRecordWriter] | None = None
        self._size = self._published = 0

    def write(self, record: bytes) -> None:
        """Appends a record, and publishes the file if it is full."""
        if self._open is None:
            path = f"{self._work_folder}/{uuid.uuid4().hex}.gz"
            self._open = path, tf.io.TFRecordWriter(path, self._options)
        self._open[1].write(record)
        self._size += len(record)
        if self._size >= FILE_BYTES:
            self.publish()

    def abandon(self) -> None:
        """Closes the open file without publishing it."""
        if self._open is not None:
            with suppress(tf.errors.OpError):
                self._open[1].close()

    def publish(self) -> None:
        """Closes the open file and moves it to the folder of the split."""
        if self._open is None:
            return
        path, writer = self._open
        writer.close()
        name = f"data_tfrecord-{self._shard_index:05d}-{self._published:03d}.gz"
        storage.make_folder(self._folder)
        storage.rename(path, f"{self._folder}/{name}")
        self._open, self._size, self._published = None, 0, self._published + 1


@contextmanager
def _open_files(
    shard_index: int, folders: Mapping[str, str], work_folder: str, level: int
) -> Iterator[dict[str, _SplitFiles]]:
    files = {
        name: _SplitFiles(folder, shard_index, work_folder, level)
        for name, folder in folders.items()
    }
    try:
        yield files
        for split_files in files.values():
            split_files.publish()
    except BaseException:
        for split_files in files.values():
            split_files.abandon()
        raise


def _compression_level(good: Mapping[str, Check]) -> int:
    mean = sum(check.size for check in good.values()) / max(1, len(good))
    return 0 if mean >= UNCOMPRESSED_FROM_BYTES else 1


def to_example(
    record: Record,
    channels: int,
    quartiles: Sequence[str] = (c.NO_SLICE,) * len(QUARTILES),
    *,
    white: Sequence[float | None] = DEFAULT_WHITE,
    picture: str | None = None,
    stored: Header | None = None,
    has_folders: bool = True,
) -> bytes:
    """Serializes a record as a tf.Example with the features of `keras_ae.contract`.

    Args:
        record: a good image.
        channels: 1 or 3.
        quartiles: values of the slices size, brightness and detail.
        white: see `keras_ae.datasets.images.normalize.normalize`.
        picture: SHA-256 of the content of the largest file of its picture, in hexadecimal digits;
            None for a picture with one file.
        stored: header of the data if it is known that it is stored unchanged, which saves half the
            time for a small image.
        has_folders: see `keras_ae.datasets.sources.base.Source`.
    """
    data, header = record.data, stored
    if header is None:
        data, header = normalize(data, channels, white=White(*white), check_body=False)
    features: dict[str, Any] = {
        c.IMAGE_ENCODED: data,
        c.IMAGE_FORMAT: header.format.encode(),
        c.IMAGE_HEIGHT: header.height,
        c.IMAGE_WIDTH: header.width,
        c.IMAGE_SOURCE: record.key.encode(),
    }
    if record.label is not None:
        features[c.IMAGE_LABEL] = record.label.encode()
    if picture is not None:
        features[c.IMAGE_PICTURE] = picture.encode()
    folder = _first_folder(record.key, record.split) if has_folders else c.NO_SLICE
    slices = (record.label or c.NO_SLICE, folder, *quartiles)
    features |= {c.SLICE_PREFIX + name: text.encode() for name, text in zip(c.SLICES, slices)}
    example = tf.train.Example()
    # Modify in place, because a message that is passed to a constructor is copied, with its image.
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.bytes_list.value.append(value)
    # Without this, the order of the features differs between processes.
    return example.SerializeToString(deterministic=True)


def _first_folder(key: str, split: str | None) -> str:
    """The first folder of a path, unless it is below the folder of its split."""
    folders = [part for part in PurePosixPath(key).parts[:-1] if part not in ("/", "..")]
    is_split = [split is not None and split_of(folder) == split for folder in folders]
    above = folders[: is_split.index(True)] if any(is_split) else folders
    return above[0] if above else c.NO_SLICE
