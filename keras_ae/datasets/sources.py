"""Where images come from: a folder, an archive, a TensorFlow dataset or the sample photographs.

A source is small and can be pickled: it lists shards of names, and reads the images of a shard
where it is asked to, so that bytes never travel between workers.
"""

import functools
import hashlib
import lzma
import os
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from keras_ae.errors import DataError

SAMPLE = "sample"
TFDS_PREFIX = "tfds:"
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.bz2", ".tar.gz", ".tar.xz", ".tbz2", ".tgz", ".txz")
MIN_SHARD, MAX_SHARDS = 64, 256

_ARCHIVE_ERRORS = (
    OSError,
    EOFError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)

Shard = tuple[str, ...]
"""Names of some images of a source."""


class Record(NamedTuple):
    """An image as the source holds it.

    Attributes:
        key: path or key, unique in the source.
        data: the encoded image; empty where it could not be read.
        fault: why it could not be read; empty otherwise.
        split: train, val or test where the source fixes it.
        label: name of its class, where the source has one.
    """

    key: str
    data: bytes
    fault: str = ""
    split: str | None = None
    label: str | None = None


class Source(ABC):
    """A collection of encoded images."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 that changes when a name or the content of an image does."""

    @abstractmethod
    def shards(self) -> list[Shard]:
        """Units of work for parallel reading."""

    @abstractmethod
    def read(self, shard: Shard) -> Iterator[Record]:
        """Reads the images of a shard."""


def open_source(data: str, workspace: Path | None = None) -> Source:
    """Finds the source that `data` names.

    Args:
        data: "sample", a folder (searched recursively), a zip or tar, or `tfds:NAME[:VERSION]`.
        workspace: folder where the sample photographs are prepared; needed to read them.

    Raises:
        DataError: if there is no such source, or no image in it.
    """
    check(data)
    if data == SAMPLE or data.startswith(TFDS_PREFIX):
        from keras_ae.datasets.tfds_source import SampleSource, TfdsSource

        return SampleSource(workspace) if data == SAMPLE else TfdsSource(data)
    path = Path(data)
    if path.is_dir():
        return FolderSource(path)
    return ZipSource(path) if path.name.lower().endswith(ZIP_SUFFIXES) else TarSource(path)


def check(data: str) -> None:
    """Tells at once what is wrong with `data`; TensorFlow datasets are looked up when opened.

    Raises:
        DataError: if there is no such folder or archive, or no image in the folder.
    """
    if data == SAMPLE or (data.startswith(TFDS_PREFIX) and len(data) > len(TFDS_PREFIX)):
        return
    path = Path(data)
    if not path.exists():
        raise DataError(
            f"no such folder or archive: {data} "
            "(expected a folder, a .zip or .tar file, or tfds:NAME)"
        )
    if path.is_dir():
        if not any(_is_image(name) for name in _names_in(path)):
            _no_image(data, _names_in(path))
    elif not path.name.lower().endswith((*ZIP_SUFFIXES, *TAR_SUFFIXES)):
        raise DataError(
            f"{data} is not a folder, nor an archive whose name ends in "
            f"{', '.join((*ZIP_SUFFIXES, *TAR_SUFFIXES))}"
        )


@dataclass(frozen=True)
class FolderSource(Source):
    """The image files of a folder and its subfolders; hidden ones are left out."""

    path: Path

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name in self._names():
            digest.update(os.fsencode(name) + b"\0")
            # One that cannot be read is set aside when it is its turn.
            with suppress(OSError), (self.path / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def shards(self) -> list[Shard]:
        return _shards(self._names())

    def read(self, shard: Shard) -> Iterator[Record]:
        for name in shard:
            try:
                yield Record(_printable(name), (self.path / name).read_bytes())
            except OSError as error:
                yield Record(_printable(name), b"", f"cannot be read: {error.strerror}")

    def _names(self) -> list[str]:
        return sorted(name for name in _names_in(self.path) if _is_image(name))


@dataclass(frozen=True)
class ZipSource(Source):
    """The image files in a zip; paths inside are names only, nothing is unpacked."""

    path: Path

    def fingerprint(self) -> str:
        return _file_digest(self.path)

    def shards(self) -> list[Shard]:
        archive = _open_zip(self.path, _stamp(self.path))
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        return _image_shards(self.path, names)

    def read(self, shard: Shard) -> Iterator[Record]:
        archive = _open_zip(self.path, _stamp(self.path))
        for name in shard:
            try:
                yield Record(name, archive.read(name))
            except (*_ARCHIVE_ERRORS, RuntimeError) as error:
                yield Record(name, b"", f"cannot be read from the archive: {error}")


@dataclass(frozen=True)
class TarSource(Source):
    """The image files in a tar; a compressed one is read from its beginning, by one worker."""

    path: Path

    def fingerprint(self) -> str:
        return _file_digest(self.path)

    def shards(self) -> list[Shard]:
        shards = _image_shards(self.path, list(_tar_index(self.path, _stamp(self.path))))
        return shards if self.path.name.lower().endswith(".tar") else [sum(shards, ())]

    def read(self, shard: Shard) -> Iterator[Record]:
        index = _tar_index(self.path, _stamp(self.path))
        with tarfile.open(self.path) as archive:
            # In the order of the file: going back in a compressed one starts anew.
            for name in sorted(shard, key=lambda name: index[name].offset_data):
                file = archive.extractfile(index[name])
                yield Record(_printable(name), file.read() if file else b"")


def _stamp(path: Path) -> tuple[int, int]:
    """Changes when a file does, for what is kept of one in memory."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=2)
def _open_zip(path: Path, stamp: tuple[int, int]) -> zipfile.ZipFile:
    """Opened once in a process: the directory of a large zip takes half a second to read."""
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot open {path} as a zip: {error}") from error


@functools.lru_cache(maxsize=2)
def _tar_index(path: Path, stamp: tuple[int, int]) -> dict[str, tarfile.TarInfo]:
    """The files in a tar, which has no directory of its own; the last of a name counts."""
    try:
        with tarfile.open(path) as archive:
            return {member.name: member for member in archive if member.isfile()}
    except _ARCHIVE_ERRORS as error:
        raise DataError(f"cannot read {path} as a tar: {error}") from error


def _names_in(folder: Path) -> Iterator[str]:
    """Relative names of the files below a folder."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        # Links may lead in circles.
        real = Path(place).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name).relative_to(folder).as_posix() for name in files)


def _printable(name: str) -> str:
    """A file's name in UTF-8, whatever its bytes are."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_image(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in parts)
    return not hidden and name.lower().endswith(IMAGE_SUFFIXES)


def _image_shards(path: Path, names: list[str]) -> list[Shard]:
    images = sorted({name for name in names if _is_image(name)})
    if not images:
        _no_image(str(path), names)
    return _shards(images)


def _no_image(place: str, names: Iterable[str]) -> None:
    count = sum(1 for _ in names)
    raise DataError(
        f"no image in {place}: looked for {', '.join(IMAGE_SUFFIXES)} "
        f"and found {count or 'no'} other file{'s' if count != 1 else ''}"
    )


def _shards(names: list[str]) -> list[Shard]:
    return [tuple(names[start:stop]) for start, stop in slices(len(names))]


def slices(count: int) -> list[tuple[int, int]]:
    """Cuts a number of images into shards: first and last plus one of each."""
    size = max(MIN_SHARD, -(-count // MAX_SHARDS))
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
