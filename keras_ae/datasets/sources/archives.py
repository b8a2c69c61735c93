"""Images in a zip or tar, on this machine or at a URI; nothing is unpacked."""

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
from keras_ae.datasets.sources.base import Record, Shard, Source, cut, no_image, status_digest
from keras_ae.datasets.sources.names import is_image, printable
from keras_ae.errors import DataError

ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.bz2", ".tar.gz", ".tar.xz", ".tbz2", ".tgz", ".txz")

_ERRORS = (*tar.ERRORS, zipfile.BadZipFile)
"""What reading a broken archive raises."""
_LOCAL_HEADER_BYTES = 30
"""Before the name of a member of a zip."""
_PART_BYTES = 2**20
_SMALL_PART_BYTES = 4096
"""Python unpacks bz2 and LZMA by what goes in, however much comes out."""


@dataclass(frozen=True)
class _Archive(Source):
    """What zip and tar share.

    Attributes:
        place: path or URI.
    """

    place: str

    def fingerprint(self) -> str:
        if storage.is_uri(self.place):
            return status_digest({self.place: storage.status(self.place)})
        try:
            found = Path(self.place).stat()
            moment = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
            return _file_digest(self.place, moment)
        except OSError as error:
            raise DataError(f"cannot read {self.place}: {error.strerror}") from error

    def changes(self, names: Iterable[str]) -> str:
        return "another archive"

    def _cut(self, sizes: Mapping[str, int], others: int) -> list[Shard]:
        """Shards of images of these sizes, beside which there are other files."""
        images = sorted(sizes)
        if not images:
            no_image(self.place, others)
        # Of one that is larger not much is read.
        return cut(images, [min(sizes[name], MAX_BYTES) for name in images])


@dataclass(frozen=True)
class ZipSource(_Archive):
    """The image files in a zip; paths inside are names only, and the last of a name counts."""

    def shards(self) -> list[Shard]:
        archive, members = _zip_index(self.place, storage.status(self.place))
        # Not by is_dir(), which fails for an empty name.
        others = sum(not info.filename.endswith("/") for info in archive.infolist())
        # An image costs by its pixels, of which its own bytes tell more than the packed ones.
        return self._cut({name: member.info.file_size for name, member in members.items()}, others)

    def read(self, shard: Shard) -> Iterator[Record]:
        archive, members = _zip_index(self.place, storage.status(self.place))
        for name in shard:
            yield _record(name, functools.partial(_read_zipped, archive, members.get(name)))


@dataclass(frozen=True)
class TarSource(_Archive):
    """The image files in a tar; a compressed one is read from its beginning, by one worker."""

    def shards(self) -> list[Shard]:
        index = self._index()
        sizes = {name: member.size for name, member in index.members.items()}
        shards = self._cut(sizes, index.others)
        return [sum(shards, ())] if index.packed else shards

    def read(self, shard: Shard) -> Iterator[Record]:
        members = self._index().members
        # In the order of the file: going back in a compressed one would start anew.
        order = sorted(shard, key=lambda name: members[name].at if name in members else 0)
        with storage.open_file(self.place) as file, tar.unpacked(file) as stream:
            for name in order:
                yield _record(name, functools.partial(_read_tarred, stream, members.get(name)))

    def _index(self) -> tar.Index:
        return _tar_index(self.place, storage.status(self.place))


class _Zipped(NamedTuple):
    info: zipfile.ZipInfo
    fault: str


def _record(name: str, read: Callable[[], bytes]) -> Record:
    try:
        return Record(name, read())
    except DataError as error:
        return Record(name, b"", str(error))
    except _ERRORS as error:
        return Record(name, b"", f"cannot be read from the archive: {tar.told(error)}")


def _read_zipped(archive: zipfile.ZipFile, member: _Zipped | None) -> bytes:
    if member is None:
        raise DataError("no longer in the archive")
    if member.fault:
        raise DataError(member.fault)
    bounded = member.info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    with archive.open(member.info) as file:
        return _read(file, member.info.file_size, _PART_BYTES if bounded else _SMALL_PART_BYTES)


def _read_tarred(stream: BinaryIO, member: tar.Member | None) -> bytes:
    if member is None:
        raise DataError("no longer in the archive")
    if member.fault:
        raise DataError(member.fault)
    if member.size <= MAX_BYTES:
        stream.seek(member.at)
    return _read(stream, member.size, _PART_BYTES)


def _read(file: IO[bytes], size: int, part_bytes: int) -> bytes:
    """Reads a member, no more of what is no image than its beginning."""
    if size > MAX_BYTES:
        raise DataError(f"a file of {size:,} bytes, more than the limit of {MAX_BYTES:,}")
    whole = io.BytesIO()
    while left := size - whole.tell():
        part = file.read(min(left, part_bytes))
        if not part:
            raise EOFError(f"{whole.tell():,} of {size:,} bytes")
        if not whole.tell() and left > len(part) and not looks_like_image(part):
            return part
        whole.write(part)
    return whole.getvalue()


@functools.lru_cache(maxsize=2)
def _file_digest(place: str, moment: tuple[int, ...]) -> str:
    """SHA-256 of a local file, which is not read again in this process while it is untouched."""
    return storage.sha256_of_file(place).hex()


@functools.lru_cache(maxsize=2)
def _zip_index(place: str, status: storage.Status) -> tuple[zipfile.ZipFile, Mapping[str, _Zipped]]:
    """Opened once in a process: the directory of a large zip takes half a second to read."""
    try:
        if not storage.is_uri(place):
            storage.open_file(place).close()
        # It closes what it opened itself.
        archive = zipfile.ZipFile(storage.open_file(place) if storage.is_uri(place) else place)
        if any(info.header_offset < 0 for info in archive.infolist()):
            raise zipfile.BadZipFile("members before its beginning")
    except _ERRORS as error:
        raise DataError(f"cannot open {place} as a zip: {tar.told(error)}") from error
    overlapping = _overlapping(archive.infolist())
    return archive, {
        printable(info.filename): _Zipped(info, _zip_fault(info, info.header_offset in overlapping))
        for info in archive.infolist()
        if is_image(info.filename)
    }


def _zip_fault(info: zipfile.ZipInfo, overlaps: bool) -> str:
    if stat.S_ISLNK(info.external_attr >> 16):
        return tar.LINK
    return "overlaps another member, as in a zip bomb" if overlaps else ""


def _overlapping(files: list[zipfile.ZipInfo]) -> set[int]:
    """Where the members stand that share bytes with others."""
    found: set[int] = set()
    end, last = 0, 0
    for info in sorted(files, key=lambda info: info.header_offset):
        if info.header_offset < end:
            found |= {last, info.header_offset}
        own_end = info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size
        if own_end > end:
            end, last = own_end, info.header_offset
    return found


@functools.lru_cache(maxsize=2)
def _tar_index(place: str, status: storage.Status) -> tar.Index:
    try:
        with storage.open_file(place) as file:
            index = tar.index(file, status.size, is_image)
    except tar.ERRORS as error:
        raise DataError(f"cannot read {place} as a tar: {tar.told(error)}") from error
    members = {printable(name): member for name, member in index.members.items()}
    return index._replace(members=members)
