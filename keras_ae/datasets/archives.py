"""Images in a zip or tar, on this machine or at a URI; nothing is unpacked."""

import functools
import hashlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keras_ae.datasets import storage
from keras_ae.datasets.sources import (
    Record,
    Shard,
    Source,
    cut,
    is_image,
    no_image,
    printable,
    status_digest,
)
from keras_ae.errors import DataError

ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.bz2", ".tar.gz", ".tar.xz", ".tbz2", ".tgz", ".txz")

_ERRORS = (
    OSError,
    EOFError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


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

    def _cut(self, sizes: dict[str, int]) -> list[Shard]:
        """Shards of the images among files of these sizes."""
        images = sorted(name for name in sizes if is_image(name))
        if not images:
            no_image(self.place, sizes)
        return cut(images, [sizes[name] for name in images])


@dataclass(frozen=True)
class ZipSource(_Archive):
    """The image files in a zip; paths inside are names only."""

    def shards(self) -> list[Shard]:
        archive = _open_zip(self.place, storage.status(self.place))
        # An image costs by its pixels, of which its own bytes tell more than the packed ones.
        return self._cut({i.filename: i.file_size for i in archive.infolist() if not i.is_dir()})

    def read(self, shard: Shard) -> Iterator[Record]:
        archive = _open_zip(self.place, storage.status(self.place))
        for name in shard:
            try:
                yield Record(name, archive.read(name))
            except (*_ERRORS, KeyError, RuntimeError) as error:
                yield Record(name, b"", f"cannot be read from the archive: {error}")


@dataclass(frozen=True)
class TarSource(_Archive):
    """The image files in a tar; a compressed one is read from its beginning, by one worker."""

    def shards(self) -> list[Shard]:
        places = _tar_index(self.place, storage.status(self.place))
        shards = self._cut({name: size for name, (_, size) in places.items()})
        return [sum(shards, ())] if self._packed else shards

    def read(self, shard: Shard) -> Iterator[Record]:
        places = _tar_index(self.place, storage.status(self.place))
        # In the order of the file: going back in a compressed one would start anew.
        order = sorted((name for name in shard if name in places), key=lambda name: places[name])
        return self._unpacked(order, places) if self._packed else self._cut_out(order, places)

    @property
    def _packed(self) -> bool:
        return not self.place.lower().endswith(".tar")

    def _cut_out(self, names: list[str], places: "_Places") -> Iterator[Record]:
        with storage.open_file(self.place) as file:
            for name in names:
                at, size = places[name]
                file.seek(at)
                yield Record(printable(name), file.read(size))

    def _unpacked(self, names: list[str], places: "_Places") -> Iterator[Record]:
        with storage.open_file(self.place) as packed, tarfile.open(fileobj=packed) as archive:
            waiting = iter(names)
            name = next(waiting, None)
            for member in _members(archive):
                if name is None:
                    return
                if member.offset_data == places[name][0]:
                    file = archive.extractfile(member)
                    yield Record(printable(name), file.read() if file else b"")
                    name = next(waiting, None)


_Places = dict[str, tuple[int, int]]


@functools.lru_cache(maxsize=2)
def _file_digest(place: str, moment: tuple[int, ...]) -> str:
    """SHA-256 of a local file, which is not read again in this process while it is untouched."""
    with storage.open_file(place) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=2)
def _open_zip(place: str, status: storage.Status) -> zipfile.ZipFile:
    """Opened once in a process: the directory of a large zip takes half a second to read."""
    try:
        # It closes what it opened itself.
        return zipfile.ZipFile(storage.open_file(place) if storage.is_uri(place) else place)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot open {place} as a zip: {error}") from error


@functools.lru_cache(maxsize=2)
def _tar_index(place: str, status: storage.Status) -> _Places:
    """Where the files in a tar begin, and their sizes; the last of a name counts.

    A tar has no directory of its own: its headers are read one after the other.
    """
    try:
        with storage.open_file(place) as file, tarfile.open(fileobj=file) as archive:
            return {
                member.name: (member.offset_data, member.size)
                for member in _members(archive)
                if member.isfile() and not member.issparse()
            }
    except _ERRORS as error:
        raise DataError(f"cannot read {place} as a tar: {error}") from error


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members one after the other: a TarFile would keep a kilobyte of each."""
    while (member := archive.next()) is not None:
        yield member
        archive.members = []  # type: ignore[attr-defined]
