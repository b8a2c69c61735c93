"""Images in a column of Parquet files, as Hugging Face's datasets write them."""

import functools
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from keras_ae import storage
from keras_ae.concurrency import map_in_threads
from keras_ae.datasets.images.headers import MAX_BYTES
from keras_ae.datasets.sources.base import (
    IMAGE_OVERHEAD_BYTES,
    Findings,
    Record,
    Shard,
    Source,
    make_shards,
)
from keras_ae.datasets.sources.kinds import kind_of
from keras_ae.datasets.sources.listing import EVERYTHING, Reading, Sorter
from keras_ae.datasets.sources.names import escape_name
from keras_ae.datasets.sources.parquet_columns import Columns, NoImagesError, find_columns
from keras_ae.datasets.sources.parts import fingerprint_of_file
from keras_ae.datasets.sources.splits import split_of
from keras_ae.errors import DataError, one_line

SUFFIX: Final = ".parquet"
PATH_ONLY: Final = "rows without the bytes of an image"
"""The kind by which rows are counted that name a file elsewhere, or nothing."""
_BUFFER_BYTES: Final = 2**20
_MAX_ROWS: Final = 100
"""Maximum number of rows for each byte of a file."""
_MAX_RATIO: Final = 100
"""Maximum of bytes that are read for each byte of a file, beyond `MAX_BYTES`. Images compress
little."""
_PARTS = re.compile(r"(?P<name>.+?)(?:-\d+(?:-of-\d+)?)?(?:-[0-9a-f]{16})?")
"""The name of a split, as in train-00000-of-00002 and train-00000-of-00002-0123456789abcdef."""


class RowGroup(NamedTuple):
    """A part of a file that can be read by itself.

    Attributes:
        number: its number in the file.
        start: number of the first row in the file.
        rows: number of rows.
        size: bytes of the images and labels before compression.
    """

    number: int
    start: int
    rows: int
    size: int


class File(NamedTuple):
    """A file of the data.

    Attributes:
        path: path or URI.
        columns: that are read.
        groups: its row groups.
        split: its split by name; None if it has none.
    """

    path: str
    columns: Columns
    groups: Sequence[RowGroup]
    split: str | None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(group.rows for group in self.groups)


@dataclass(frozen=True)
class ParquetSource(Source):
    """The images of a Parquet file, or of all that are in a folder. A shard is some row groups.

    Files whose names or folders are those of splits are the splits, if there are two different
    ones. Tables without images are not read if there are others.

    Attributes:
        path: path or URI of a .parquet file or a folder.
        column: name of the column of images; empty to find it.
        keep_splits: whether files that are named after splits are the splits.
        reading: which files of a folder are read.
    """

    has_folders = False

    path: str
    column: str = ""
    keep_splits: bool = True
    reading: Reading = EVERYTHING

    def fingerprint(self) -> str:
        files = self._files()
        return storage.sha256_of_parts(
            f"{name}\0{fingerprint_of_file(file.path)}\0".encode() for name, file in files.items()
        )

    def describe_changes(self, names: Iterable[str]) -> str:
        return "a file was added, changed or removed"

    def findings(self) -> Findings:
        kept = self._kept()
        unused = {f"in {n}": f.rows for n, f in self._files().items() if n not in kept}
        names, not_read = self._names()
        if without := len(names) and len(names) - len(self._files()):
            unused[f"{SUFFIX} without images"] = without
        return Findings({**not_read, **unused})

    def shards(self) -> list[Shard]:
        groups = {
            f"{name}#{group.number}": group
            for name, file in self._kept().items()
            for group in file.groups
            if group.rows
        }
        if not groups:
            raise DataError(f"no rows in {self.path}")
        # Each row has the overhead of an image; `make_shards` adds that of one for each group.
        sizes = [g.size + (g.rows - 1) * IMAGE_OVERHEAD_BYTES for g in groups.values()]
        return make_shards(list(groups), sizes)

    def read(self, shard: Shard) -> Iterator[Record]:
        files = self._kept()
        for name, places in itertools.groupby(shard, lambda place: place.rpartition("#")[0]):
            numbers = [int(place.rpartition("#")[2]) for place in places]
            yield from _read_groups(name[: -len(SUFFIX)], files[name], numbers)

    def _kept(self) -> Mapping[str, File]:
        """The files that are read: those with a split, if files are the splits."""
        files = self._files()
        splits = {file.split for file in files.values()} - {None}
        if not self.keep_splits or len(splits) < 2:
            return {name: file._replace(split=None) for name, file in files.items()}
        return {name: file for name, file in files.items() if file.split}

    def _files(self) -> Mapping[str, File]:
        names, _ = self._names()
        folder = self.path if names else storage.parent(self.path)
        names = names or [storage.name(self.path)]
        statuses = tuple(storage.get_statuses(folder, names))
        return _read_files(folder, tuple(names), statuses, self.column)

    def _names(self) -> tuple[list[str], dict[str, int]]:
        """Sorted relative names of the files in a folder, and the number of others by kind."""
        names: list[str] = []
        if not storage.is_folder(self.path):
            return names, {}
        sorter = Sorter(self.reading)
        for name in storage.walk_names(self.path):
            if name.lower().endswith(SUFFIX):
                names += [name] if sorter.is_included(name) else []
            elif sorter.is_candidate(name):
                sorter.not_read[kind_of(name)] += 1
        return sorted(names), dict(sorter.not_read)


def split_of_file(name: str) -> str | None:
    """The split of a file by its name, or else by the next folder that is named after one.

    >>> split_of_file("data/train-00000-of-00002.parquet")
    'train'
    >>> split_of_file("default/test/0000.parquet")
    'test'
    """
    *folders, file = name[: -len(SUFFIX)].split("/")
    match = _PARTS.fullmatch(file)
    names = [match["name"] if match else file, *reversed(folders)]
    return next((split for part in names if (split := split_of(part)) is not None), None)


@functools.lru_cache(maxsize=4)
def _read_files(
    folder: str, names: tuple[str, ...], statuses: tuple[storage.Status, ...], column: str
) -> Mapping[str, File]:
    """Reads the footers of the files with images, by escaped name."""

    def read(name: str) -> File | NoImagesError:
        try:
            return _read_file(storage.join(folder, name), name, column)
        except NoImagesError as error:
            return error

    threads = storage.PARALLEL_REQUESTS if storage.is_uri(folder) else 1
    results = dict(zip(map(escape_name, names), map_in_threads(read, names, threads)))
    files = {name: file for name, file in results.items() if isinstance(file, File)}
    if not files:
        raise next(error for error in results.values() if isinstance(error, NoImagesError))
    return files


def _read_file(path: str, name: str, column: str) -> File:
    try:
        with storage.open_file(path) as stream, _open(stream) as file:
            size = stream.seek(0, os.SEEK_END)
            columns = find_columns(path, file.schema_arrow, column)
            groups = _groups(file.metadata, columns)
            rows = sum(group.rows for group in groups)
            if min((group.rows for group in groups), default=0) < 0 or rows > _MAX_ROWS * size:
                raise ValueError(f"it claims {rows:,} rows in {size:,} bytes")
            if sum(group.size for group in groups) > _MAX_RATIO * size + MAX_BYTES:
                raise ValueError(f"it unpacks to more than {_MAX_RATIO} times its {size:,} bytes")
            return File(path, columns, groups, split_of_file(name))
    except _errors() as error:
        raise _damaged(path, error) from error


def _groups(metadata: Any, columns: Columns) -> list[RowGroup]:
    names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    read = [names.index(path) for path in columns.paths]
    groups: list[RowGroup] = []
    start = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        size = sum(max(0, group.column(i).total_uncompressed_size) for i in read)
        groups.append(RowGroup(index, start, group.num_rows, size))
        start += group.num_rows
    return groups


def _read_groups(name: str, file: File, numbers: Iterable[int]) -> Iterator[Record]:
    with ExitStack() as stack:

        @functools.cache
        def opened() -> Any:
            return stack.enter_context(_open(stack.enter_context(storage.open_file(file.path))))

        for number in numbers:
            yield from _read_group(name, file, file.groups[number], opened)


def _read_group(
    name: str, file: File, group: RowGroup, opened: Callable[[], Any]
) -> Iterator[Record]:
    """Reads the images of a row group; after damage, all other rows have a fault."""
    fault, done = "", 0
    try:
        for data, label in _read_rows(opened(), file.columns, group):
            done += 1
            yield _record(f"{name}/{group.start + done - 1:06d}", data, label, file.split)
    except _errors() as error:
        fault = str(_damaged(file.path, error))
    except DataError as error:
        fault = str(error)
    for row in range(done, group.rows):
        key = f"{name}/{group.start + row:06d}"
        yield Record(key, b"", fault or "no longer in the file", file.split)


def _read_rows(
    opened: Any, columns: Columns, group: RowGroup
) -> Iterator[tuple[bytes | None, str | None]]:
    """The bytes and the label of each row.

    A row is read at a time, since all rows may be one large value of a dictionary.
    """
    for row in opened.iter_batches(1, [group.number], columns.paths, use_threads=False):
        images = row.column(columns.image)
        if columns.is_struct:
            images = images.field("bytes")
        label = columns.label_of(row.column(columns.label)[0].as_py()) if columns.label else None
        yield images[0].as_py(), label


def _record(key: str, data: bytes | None, label: str | None, split: str | None) -> Record:
    if not data:
        return Record(key, b"", not_read=PATH_ONLY)
    if len(data) > MAX_BYTES:
        fault = f"a file of {len(data):,} bytes, more than the limit of {MAX_BYTES:,}"
        return Record(key, b"", fault, split, label)
    return Record(key, data, "", split, label)


def _open(stream: Any) -> Any:
    """Opens a Parquet file so that only the pages that are read are in memory."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(stream, pre_buffer=False, buffer_size=_BUFFER_BYTES)


def _errors() -> tuple[type[Exception], ...]:
    """Exceptions that reading a damaged file raises."""
    import pyarrow as pa

    return pa.ArrowException, OSError, ValueError, OverflowError, MemoryError


def _damaged(path: str, error: Exception) -> DataError:
    return DataError(f"cannot read {path} as a .parquet: {one_line(error)}")
