"""Images in a zip or tar at a path or URI; nothing is extracted to disk."""

import functools
import io
import stat
import zipfile
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from keras_ae import storage
from keras_ae.datasets.images.headers import MAX_BYTES, looks_like_image
from keras_ae.datasets.sources import tar
from keras_ae.datasets.sources.base import (
    Findings,
    Record,
    Shard,
    Source,
    make_shards,
    raise_no_image,
    status_digest,
)
from keras_ae.datasets.sources.kinds import (
    HEAD_BYTES,
    has_image_suffix,
    kind_of,
)
from keras_ae.datasets.sources.listing import EVERYTHING, Listing, Reading, Sorter, list_files
from keras_ae.datasets.sources.names import escape_name, unescape_name
from keras_ae.datasets.sources.splits import Layout
from keras_ae.errors import DataError, one_line

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
        reading: which members are read.
    """

    path: str
    reading: Reading = EVERYTHING

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

    @abstractmethod
    def _listing(self) -> Listing:
        """The members that are read."""

    def findings(self) -> Findings:
        return self._listing().findings()

    def _make_shards(self, sizes: Mapping[str, int]) -> list[Shard]:
        images = sorted(sizes)
        if not images:
            raise_no_image(self.path, self._listing().not_read)
        # Larger files are not read.
        return make_shards(images, [min(sizes[name], MAX_BYTES) for name in images])


@dataclass(frozen=True)
class ZipSource(_Archive):
    """The image files in a zip.

    Paths in the archive are only used as names. Of members with the same name the last one counts.
    """

    def shards(self) -> list[Shard]:
        # The size before compression is a better estimate of the work than the size in the archive.
        members = self._index().members
        return self._make_shards({name: each.info.file_size for name, each in members.items()})

    def read(self, shard: Shard) -> Iterator[Record]:
        index = self._index()
        for name in shard:
            opened = functools.partial(_open_zip_member, index.archive, index.members.get(name))
            yield _record(name, opened, index.listing.layout)

    def _index(self) -> "_ZipIndex":
        return _zip_index(self.path, storage.get_status(self.path), self.reading)

    def _listing(self) -> Listing:
        return self._index().listing


@dataclass(frozen=True)
class TarSource(_Archive):
    """The image files in a tar; one worker reads a compressed tar, from its beginning."""

    def shards(self) -> list[Shard]:
        index, _ = self._index()
        shards = self._make_shards({name: member.size for name, member in index.members.items()})
        return [sum(shards, ())] if index.is_compressed else shards

    def read(self, shard: Shard) -> Iterator[Record]:
        index, listing = self._index()
        members = index.members
        # In the order of the file, because seeking backwards decompresses it again from the start.
        order = sorted(shard, key=lambda name: members[name].offset if name in members else 0)
        with storage.open_file(self.path) as file, tar.decompressed(file) as stream:
            for name in order:
                opened = functools.partial(_open_tar_member, stream, members.get(name))
                yield _record(name, opened, listing.layout)

    def _index(self) -> tuple[tar.Index, Listing]:
        return _tar_index(self.path, storage.get_status(self.path), self.reading)

    def _listing(self) -> Listing:
        return self._index()[1]


class _Opened(NamedTuple):
    """A member at its beginning, its size, and the number of bytes to read at once."""

    context: AbstractContextManager[IO[bytes]]
    size: int
    part_bytes: int


class _ZipMember(NamedTuple):
    info: zipfile.ZipInfo
    fault: str


class _ZipIndex(NamedTuple):
    archive: zipfile.ZipFile
    members: Mapping[str, _ZipMember]
    listing: Listing


def _record(name: str, open_member: Callable[[], _Opened], layout: Layout) -> Record:
    original = unescape_name(name)
    may_be_image = has_image_suffix(original)
    data, fault = b"", ""
    try:
        context, size, part_bytes = open_member()
        with context as file:
            head = b"" if may_be_image else file.read(min(size, HEAD_BYTES))
            may_be_image = may_be_image or looks_like_image(head)
            data = _read(file, size, part_bytes, head) if may_be_image else b""
    except DataError as error:
        fault = str(error)
    except _ERRORS as error:
        fault = f"cannot be read from the archive: {one_line(error)}"
    if not may_be_image and not fault:
        return Record(name, b"", not_read=kind_of(original))
    place = layout.place(original)
    return Record(name, data, fault, place.split, place.label)


def _open_zip_member(archive: zipfile.ZipFile, member: _ZipMember | None) -> _Opened:
    if member is None:
        raise DataError("no longer in the archive")
    if member.fault:
        raise DataError(member.fault)
    bounded = member.info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    part_bytes = _PART_BYTES if bounded else _SMALL_PART_BYTES
    return _Opened(archive.open(member.info), member.info.file_size, part_bytes)


def _open_tar_member(stream: BinaryIO, member: tar.Member | None) -> _Opened:
    if member is None:
        raise DataError("no longer in the archive")
    if member.fault:
        raise DataError(member.fault)
    stream.seek(member.offset)
    return _Opened(nullcontext(stream), member.size, _PART_BYTES)


def _read(file: IO[bytes], size: int, part_bytes: int, head: bytes) -> bytes:
    """Reads a member, but only the first part if that does not look like an image.

    Args:
        file: the member, after `head`.
        size: number of its bytes.
        part_bytes: maximum number of bytes to read at once.
        head: its first bytes if they were read before.
    """
    if size > MAX_BYTES:
        raise DataError(f"a file of {size:,} bytes, more than the limit of {MAX_BYTES:,}")
    data = io.BytesIO()
    data.write(head)
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
def _zip_index(path: str, status: storage.Status, reading: Reading) -> _ZipIndex:
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
    # ZipInfo.is_dir() fails for an empty name.
    infos = {info.filename: info for info in archive.infolist()}
    if not any("/" in name for name in infos):
        # Some programs for Windows write the names of folders like this.
        infos = {name.replace("\\", "/"): info for name, info in infos.items()}
    infos = {name: info for name, info in infos.items() if not name.endswith("/")}
    listing = list_files(infos, reading, path)
    members = {
        escape_name(name): _ZipMember(
            infos[name], _zip_fault(infos[name], infos[name].header_offset in overlapping)
        )
        for name in listing.names
    }
    return _ZipIndex(archive, members, listing)


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
def _tar_index(path: str, status: storage.Status, reading: Reading) -> tuple[tar.Index, Listing]:
    sorter = Sorter(reading)
    try:
        with storage.open_file(path) as file:
            index = tar.read_index(file, status.size, sorter.is_candidate)
    except tar.ERRORS as error:
        raise DataError(f"cannot read {path} as a tar: {one_line(error)}") from error
    listing = sorter.arrange(index.members, reading, path)
    members = {escape_name(name): index.members[name] for name in listing.names}
    return index._replace(members=members), listing
