"""Images in a zip or tar at a path or URI; nothing is extracted to disk."""

import functools
import io
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from keras_ae import storage
from keras_ae.datasets.images.headers import MAX_BYTES, looks_like_image
from keras_ae.datasets.sources import tar
from keras_ae.datasets.sources.base import (
    Record,
    Shard,
    Source,
    make_shards,
    raise_no_image,
    status_digest,
)
from keras_ae.datasets.sources.names import escape_name, is_image
from keras_ae.errors import DataError, one_line

ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.bz2", ".tar.gz", ".tar.xz", ".tbz2", ".tgz", ".txz")

_ERRORS = (*tar.ERRORS, zipfile.BadZipFile)
"""Exceptions that reading a damaged archive raises."""
_LOCAL_HEADER_BYTES = 30
"""Size of the fixed part of the header before each member of a zip."""
_PART_BYTES = 2**20
_SMALL_PART_BYTES = 4096
"""For bz2 and LZMA, where `zipfile` decompresses all that it reads, whatever the output size."""


@dataclass(frozen=True)
class _Archive(Source):
    """The common parts of zip and tar.

    Attributes:
        path: path or URI of the archive.
    """

    path: str

    def fingerprint(self) -> str:
        if storage.is_uri(self.path):
            return status_digest({self.path: storage.get_status(self.path)})
        try:
            stats = Path(self.path).stat()
            version = stats.st_ino, stats.st_size, stats.st_mtime_ns, stats.st_ctime_ns
            return _file_digest(self.path, version)
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror}") from error

    def describe_changes(self, names: Iterable[str]) -> str:
        return "the archive was changed or replaced"

    def _make_shards(self, sizes: Mapping[str, int], other_files: int) -> list[Shard]:
        images = sorted(sizes)
        if not images:
            raise_no_image(self.path, other_files)
        # Larger files are not read.
        return make_shards(images, [min(sizes[name], MAX_BYTES) for name in images])


@dataclass(frozen=True)
class ZipSource(_Archive):
    """The image files in a zip.

    Paths in the archive are only used as names. Of members with the same name the last one counts.
    """

    def shards(self) -> list[Shard]:
        archive, members = _zip_index(self.path, storage.get_status(self.path))
        # ZipInfo.is_dir() fails for an empty name.
        other_files = sum(not info.filename.endswith("/") for info in archive.infolist())
        # The size before compression is a better estimate of the work than the size in the archive.
        sizes = {name: member.info.file_size for name, member in members.items()}
        return self._make_shards(sizes, other_files)

    def read(self, shard: Shard) -> Iterator[Record]:
        archive, members = _zip_index(self.path, storage.get_status(self.path))
        for name in shard:
            yield _record(name, functools.partial(_read_zip_member, archive, members.get(name)))


@dataclass(frozen=True)
class TarSource(_Archive):
    """The image files in a tar; one worker reads a compressed tar, from its beginning."""

    def shards(self) -> list[Shard]:
        index = self._index()
        sizes = {name: member.size for name, member in index.members.items()}
        shards = self._make_shards(sizes, index.other_files)
        return [sum(shards, ())] if index.is_compressed else shards

    def read(self, shard: Shard) -> Iterator[Record]:
        members = self._index().members
        # In the order of the file, because seeking backwards decompresses it again from the start.
        order = sorted(shard, key=lambda name: members[name].offset if name in members else 0)
        with storage.open_file(self.path) as file, tar.decompressed(file) as stream:
            for name in order:
                yield _record(name, functools.partial(_read_tar_member, stream, members.get(name)))

    def _index(self) -> tar.Index:
        return _tar_index(self.path, storage.get_status(self.path))


class _ZipMember(NamedTuple):
    info: zipfile.ZipInfo
    fault: str


def _record(name: str, read: Callable[[], bytes]) -> Record:
    try:
        return Record(name, read())
    except DataError as error:
        return Record(name, b"", str(error))
    except _ERRORS as error:
        return Record(name, b"", f"cannot be read from the archive: {one_line(error)}")


def _read_zip_member(archive: zipfile.ZipFile, member: _ZipMember | None) -> bytes:
    if member is None:
        raise DataError("no longer in the archive")
    if member.fault:
        raise DataError(member.fault)
    bounded = member.info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    with archive.open(member.info) as file:
        return _read(file, member.info.file_size, _PART_BYTES if bounded else _SMALL_PART_BYTES)


def _read_tar_member(stream: BinaryIO, member: tar.Member | None) -> bytes:
    if member is None:
        raise DataError("no longer in the archive")
    if member.fault:
        raise DataError(member.fault)
    if member.size <= MAX_BYTES:
        stream.seek(member.offset)
    return _read(stream, member.size, _PART_BYTES)


def _read(file: IO[bytes], size: int, part_bytes: int) -> bytes:
    """Reads a member, but only the first part if that does not look like an image."""
    if size > MAX_BYTES:
        raise DataError(f"a file of {size:,} bytes, more than the limit of {MAX_BYTES:,}")
    data = io.BytesIO()
    while remaining := size - data.tell():
        part = file.read(min(remaining, part_bytes))
        if not part:
            raise EOFError(f"{data.tell():,} of {size:,} bytes")
        if not data.tell() and remaining > len(part) and not looks_like_image(part):
            return part
        data.write(part)
    return data.getvalue()


@functools.lru_cache(maxsize=2)
def _file_digest(path: str, version: tuple[int, ...]) -> str:
    """SHA-256 of a local file, cached in this process until the file changes."""
    return storage.sha256_of_file(path).hex()


@functools.lru_cache(maxsize=2)
def _zip_index(
    path: str, status: storage.Status
) -> tuple[zipfile.ZipFile, Mapping[str, _ZipMember]]:
    """Opens a zip once per process, because reading the directory of a large one takes 0.5 s."""
    try:
        if not storage.is_uri(path):
            # Raises if this is a pipe or a device.
            storage.open_file(path).close()
        # ZipFile closes only a file that it opened itself.
        archive = zipfile.ZipFile(storage.open_file(path) if storage.is_uri(path) else path)
        if any(info.header_offset < 0 for info in archive.infolist()):
            raise zipfile.BadZipFile("members before the start of the file")
    except _ERRORS as error:
        raise DataError(f"cannot open {path} as a zip: {one_line(error)}") from error
    overlapping = _overlapping(archive.infolist())
    return archive, {
        escape_name(info.filename): _ZipMember(
            info, _zip_fault(info, info.header_offset in overlapping)
        )
        for info in archive.infolist()
        if is_image(info.filename)
    }


def _zip_fault(info: zipfile.ZipInfo, overlaps: bool) -> str:
    if stat.S_ISLNK(info.external_attr >> 16):
        return tar.LINK
    return "overlaps another member, as in a zip bomb" if overlaps else ""


def _overlapping(files: list[zipfile.ZipInfo]) -> set[int]:
    """Header offsets of the members that share bytes with other members."""
    overlapping: set[int] = set()
    end, last = 0, 0
    for info in sorted(files, key=lambda info: info.header_offset):
        if info.header_offset < end:
            overlapping |= {last, info.header_offset}
        member_end = info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size
        if member_end > end:
            end, last = member_end, info.header_offset
    return overlapping


@functools.lru_cache(maxsize=2)
def _tar_index(path: str, status: storage.Status) -> tar.Index:
    try:
        with storage.open_file(path) as file:
            index = tar.read_index(file, status.size, is_image)
    except tar.ERRORS as error:
        raise DataError(f"cannot read {path} as a tar: {one_line(error)}") from error
    members = {escape_name(name): member for name, member in index.members.items()}
    return index._replace(members=members)
