"""Where images come from: a folder, an archive, a TensorFlow dataset or the sample photographs.

A source is small and can be pickled: it lists shards of names, and reads the images of a shard
where it is asked to, so that bytes never travel between workers. Folders and archives lie on this
machine or at a URI that TensorFlow's filesystem reads.
"""

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from keras_ae.datasets import storage
from keras_ae.datasets.headers import MAX_BYTES
from keras_ae.datasets.shards import balanced
from keras_ae.datasets.threads import in_threads
from keras_ae.errors import DataError

SAMPLE = "sample"
TFDS_PREFIX = "tfds:"
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LIKE_ESCAPES = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4})")

Shard = tuple[str, ...]
"""Keys of some images of a source, in UTF-8."""


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


class Seen(NamedTuple):
    """What reading an image told of it.

    Attributes:
        name: in its shard.
        digest: SHA-256 of its bytes, in hexadecimal digits.
        size: of its bytes; 0 for one that could not be read.
    """

    name: str
    digest: str
    size: int


class Source(ABC):
    """A collection of encoded images."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 that changes when a name or the content of an image does.

        Of what lies at a URI only names, sizes and times of the last change are asked for.
        """

    def fingerprint_of(self, seen: Iterable["Seen"]) -> str:
        """The fingerprint of what was read, or of what is there now if reading does not tell.

        Args:
            seen: all images, in the order of the shards.
        """
        return self.fingerprint()

    def changes(self, names: Iterable[str]) -> str:
        """What may have changed since these names were listed, in a few words; empty if unknown."""
        return ""

    @abstractmethod
    def shards(self) -> list[Shard]:
        """Units of work for parallel reading."""

    @abstractmethod
    def read(self, shard: Shard) -> Iterator[Record]:
        """Reads the images of a shard."""


def open_source(data: str, workspace: Path | None = None) -> Source:
    """Finds the source that `data` names.

    Args:
        data: "sample", a folder (searched recursively), a zip or tar, each a path or a URI that
            TensorFlow's filesystem reads, such as gs://bucket/images.zip, or `tfds:NAME[:VERSION]`.
        workspace: folder where the sample photographs are prepared; needed to read them. It is one
            of this machine: workers on other machines prepare them anew.

    Raises:
        DataError: if there is no such source, or no image in it.
    """
    check(data)
    if data == SAMPLE or data.startswith(TFDS_PREFIX):
        from keras_ae.datasets.tfds_source import SampleSource, TfdsSource

        return SampleSource(workspace) if data == SAMPLE else TfdsSource(data)
    if storage.is_folder(data):
        return FolderSource(data)
    from keras_ae.datasets.archives import ZIP_SUFFIXES, TarSource, ZipSource

    return ZipSource(data) if data.lower().endswith(ZIP_SUFFIXES) else TarSource(data)


def check(data: str) -> None:
    """Tells at once what is wrong with `data`; TensorFlow datasets are looked up when opened.

    Raises:
        DataError: if there is no such folder or archive, or no image in the folder, or a URI
            cannot be read.
    """
    from keras_ae.datasets.archives import TAR_SUFFIXES, ZIP_SUFFIXES

    if data == SAMPLE or (data.startswith(TFDS_PREFIX) and len(data) > len(TFDS_PREFIX)):
        return
    if storage.is_folder(data):
        if not any(map(_is_looked_at, storage.names_below(data))):
            no_image(data, sum(1 for _ in storage.names_below(data)))
    elif not storage.exists(data):
        raise DataError(
            f"no such folder or archive: {data} "
            "(expected a folder, a .zip or .tar file, or tfds:NAME)"
        )
    elif not data.lower().endswith((*ZIP_SUFFIXES, *TAR_SUFFIXES)):
        raise DataError(
            f"{data} is not a folder, nor an archive whose name ends in "
            f"{', '.join((*ZIP_SUFFIXES, *TAR_SUFFIXES))}"
        )


@dataclass(frozen=True)
class FolderSource(Source):
    """The image files of a folder and its subfolders; hidden ones are left out.

    Links to files of the folder are followed. Links out of it, links to folders, and folders that
    cannot be read are set aside.

    Attributes:
        place: path or URI.
    """

    place: str

    def fingerprint(self) -> str:
        names = self._names()
        if storage.is_uri(self.place):
            return status_digest(dict(zip(names, self._statuses(names))))
        return _content_digest((name, self._sha256(name)) for name in names)

    def fingerprint_of(self, seen: Iterable[Seen]) -> str:
        if storage.is_uri(self.place):
            return self.fingerprint()
        return _content_digest(
            (name, bytes.fromhex(digest) if size else self._sha256(name))
            for name, digest, size in seen
        )

    def changes(self, names: Iterable[str]) -> str:
        now, before = set(self._names()), set(names)
        found = {"added": now - before, "removed": before - now}
        if not any(found.values()) and now:
            # A folder changes when a file in it goes.
            folders = set() if storage.is_uri(self.place) else {f"{Path(n).parent}/" for n in now}
            found = {"last changed": {max(sorted(now) + sorted(folders), key=self._changed)}}
        return "; ".join(f"{what}: {_some(which)}" for what, which in found.items() if which)

    def shards(self) -> list[Shard]:
        names = self._names()
        return cut(names, [status.size for status in self._statuses(names)])

    def read(self, shard: Shard) -> Iterator[Record]:
        if storage.is_uri(self.place):
            return in_threads(self._read, shard, storage.AT_ONCE)
        return map(self._read, shard)

    def _read(self, name: str) -> Record:
        key = name.rstrip("/")
        try:
            return Record(key, storage.read_file(self._inside(name), MAX_BYTES))
        except OSError as error:
            return Record(key, b"", f"cannot be read: {error.strerror}")
        except DataError as error:
            return Record(key, b"", str(error))

    def _sha256(self, name: str) -> bytes:
        """Of a local file; empty for one that cannot be read, which is set aside in its turn."""
        with suppress(OSError, DataError), storage.open_file(self._inside(name)) as file:
            if os.fstat(file.fileno()).st_size <= MAX_BYTES:
                return hashlib.file_digest(file, "sha256").digest()
        return b""

    def _changed(self, name: str) -> int:
        place = storage.join(self.place, _unescaped(name))
        if storage.is_uri(self.place):
            return storage.status(place).changed
        try:
            # A file that was moved here keeps the time at which it was written.
            return Path(place).stat().st_ctime_ns
        except OSError:
            return 0

    def _statuses(self, names: list[str]) -> list[storage.Status]:
        return storage.statuses(self.place, [_unescaped(name) for name in names])

    def _inside(self, name: str) -> str:
        return storage.inside(self.place, _unescaped(name))

    def _names(self) -> list[str]:
        """As `printable` gives them."""
        return sorted(map(printable, filter(_is_looked_at, storage.names_below(self.place))))


def is_image(name: str) -> bool:
    """Whether a name is that of an image which is not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not _is_hidden(name)


def printable(name: str) -> str:
    """A file's name as one line of UTF-8, whatever its bytes are; different ones stay different.

    Bytes that are no UTF-8, control characters and those that turn the direction of writing become
    escapes of Python, such as \\x0a. Where a name has one, or looks as if it had, a backslash is
    doubled.
    """
    if not _UNPRINTABLE.search(name) and not _LIKE_ESCAPES.search(name):
        return name
    return _UNPRINTABLE.sub(_escape, name.replace("\\", "\\\\"))


def no_image(place: str, count: int) -> None:
    """Raises a DataError that tells how many other files there are."""
    raise DataError(
        f"no image in {place}: looked for {', '.join(IMAGE_SUFFIXES)} "
        f"and found {count or 'no'} other file{'s' if count != 1 else ''}"
    )


def cut(names: Sequence[str], sizes: Sequence[int]) -> list[Shard]:
    """Shards of about the same bytes, of images in the order given."""
    return [tuple(names[start:stop]) for start, stop in balanced(sizes)]


def _content_digest(files: Iterable[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, content in files:
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def status_digest(files: Mapping[str, storage.Status]) -> str:
    """SHA-256 of names, sizes and times of the last change, for stores that are costly to read."""
    digest = hashlib.sha256()
    for name, status in files.items():
        digest.update(f"{name}\0{status.size}\0{status.changed}\0".encode())
    return digest.hexdigest()


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    # Python keeps a byte that is no UTF-8 as a surrogate.
    is_byte = code < 0x80 or 0xDC80 <= code <= 0xDCFF
    return f"\\x{code & 0xFF:02x}" if is_byte else f"\\u{code:04x}"


def _unescaped(shown: str) -> str:
    """The name that `printable` made this of."""
    return _LIKE_ESCAPES.sub(_unescape, shown)


def _unescape(found: re.Match[str]) -> str:
    if found[1] == "\\":
        return "\\"
    code = int(found[1][1:], 16)
    return chr(code + 0xDC00 if found[1][0] == "x" and code >= 0x80 else code)


def _is_looked_at(name: str) -> bool:
    """Whether a file is an image by its name, or stands for a folder that was not entered."""
    return is_image(name) or (name.endswith("/") and not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return any(
        (part.startswith(".") and part not in (".", "..")) or part == "__MACOSX"
        for part in name.split("/")
    )
