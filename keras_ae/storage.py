"""Files at paths of this machine and at URIs that TensorFlow reads, such as gs://, alike.

A place is a path or a URI. A URI is a text, for `Path("gs://bucket")` loses a slash. Only URIs need
TensorFlow. What cannot be done raises OSError for a path, and for a URI StorageError, of which
ReadError is what cannot be read; their messages are one line.

URIs go through `tf.io.gfile` itself, and not through `etils.epath` on top of it: that rounds the
times of files to seconds, so that a fingerprint would miss a change; gives no file that can be read
from any position, as archives are; leaves most of TensorFlow's errors as they are; and knows the
schemes gs, s3, az and hf only.
"""

import functools
import hashlib
import io
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

from keras_ae.concurrency import in_threads
from keras_ae.errors import DataError, ReadError, StorageError, first_line

Place = str | Path

PARALLEL_REQUESTS = 32
"""Requests to a remote store that wait for their answers together."""
_BUFFER_BYTES = 2**20
_BYTE_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


class Status(NamedTuple):
    """Size in bytes and time of the last change in nanoseconds; both 0 where there is no file."""

    size: int
    changed: int


def is_uri(place: Place) -> bool:
    """Whether a place is a URI; anything else is a path of this machine."""
    return "://" in str(place)


def join(folder: Place, *names: Place | int) -> str:
    """The place of what lies below a folder."""
    if not is_uri(folder):
        return str(Path(folder, *map(str, names)))
    return "/".join([str(folder).rstrip("/"), *map(str, names)])


def parent(place: Place) -> str:
    """The folder that something lies in."""
    return str(place).rstrip("/").rpartition("/")[0]


def name(place: Place) -> str:
    """The last part of a place."""
    return str(place).rstrip("/").rpartition("/")[2]


def is_folder(place: Place) -> bool:
    """Whether there is a folder."""
    if not is_uri(place):
        return Path(place).is_dir()
    with _gfile(place) as gfile:
        return bool(gfile.isdir(place))


def exists(place: Place) -> bool:
    """Whether there is a file or a folder."""
    if not is_uri(place):
        return Path(place).exists()
    with _gfile(place) as gfile:
        return bool(gfile.exists(place))


def names(folder: Place) -> list[str]:
    """What a folder holds; nothing if it does not exist, in a bucket that does."""
    if not is_uri(folder):
        return [path.name for path in Path(folder).iterdir()] if is_folder(folder) else []
    with _gfile(folder) as gfile:
        return [name(found) for found in gfile.glob(join(folder, "*"))]


def names_below(folder: Place) -> Iterator[str]:
    """Relative names, with slashes, of the files below a folder, in no order.

    Links to folders and folders that cannot be read are not entered: their names end in a slash.

    Raises:
        ReadError: if the folder itself cannot be read, also on this machine.
    """
    if not is_uri(folder):
        yield from _local_names(folder)
        return
    with _gfile(folder) as gfile:
        yield from _remote_names(gfile, str(folder), "")


def glob(*patterns: str) -> list[str]:
    """The files that patterns match, sorted; wildcards stand in the last part only."""
    found: list[str] = []
    for pattern in patterns:
        if is_uri(pattern):
            with _gfile(pattern) as gfile:
                found += gfile.glob(pattern)
        else:
            found += map(str, Path(pattern).parent.glob(Path(pattern).name))
    return sorted(found)


def statuses(folder: Place, names: Sequence[str]) -> list[Status]:
    """The status of some files of a folder; a remote store is asked for each of them."""
    threads = PARALLEL_REQUESTS if is_uri(folder) else 1
    return list(in_threads(lambda name: status(join(folder, name)), names, threads))


def status(place: Place) -> Status:
    """The status of a file."""
    if is_uri(place):
        import tensorflow as tf

        with _gfile(place) as gfile:
            try:
                found = gfile.stat(place)
            except tf.errors.NotFoundError:
                return Status(0, 0)
            return Status(found.length, found.mtime_nsec)
    try:
        local = Path(place).stat()
    except OSError:
        return Status(0, 0)
    return Status(local.st_size, local.st_mtime_ns)


def open_file(place: Place) -> io.BufferedReader:
    """Opens a file for reading at any position; a pipe, a socket or a device is none."""
    if not is_uri(place):
        # To open a pipe would wait for a writer, and a device has no end.
        if not stat.S_ISREG(Path(place).stat().st_mode):
            raise OSError(None, "not a regular file", place)
        return Path(place).open("rb")
    return io.BufferedReader(_RemoteFile(str(place)), _BUFFER_BYTES)


def read_file(place: Place, max_bytes: int | None = None) -> bytes:
    """Reads a whole file.

    Raises:
        DataError: if it is larger than `max_bytes`.
    """
    with open_file(place) as file:
        size = file.seek(0, os.SEEK_END)
        if max_bytes is not None and size > max_bytes:
            raise DataError(f"a file of {size:,} bytes, more than the limit of {max_bytes:,}")
        file.seek(0)
        return file.read(size)


@contextmanager
def create_file(place: Place) -> Iterator[IO[bytes]]:
    """Opens a file for writing; one at a URI is there when the block ends."""
    if not is_uri(place):
        with Path(place).open("wb") as local:
            yield local
        return
    with _gfile(place, "write to") as gfile, gfile.GFile(place, "wb") as file:
        yield file


def write_file(place: Place, data: bytes) -> None:
    """Writes a whole file."""
    with create_file(place) as file:
        file.write(data)


def make_folder(place: Place) -> None:
    """Makes a folder, and those that it lies in, where they are missing."""
    if is_uri(place):
        with _gfile(place, "write to") as gfile:
            gfile.makedirs(place)
    else:
        Path(place).mkdir(parents=True, exist_ok=True)


def remove(place: Place) -> None:
    """Removes a file, or a folder with all that it holds."""
    if is_uri(place):
        with _gfile(place, "remove") as gfile:
            (gfile.rmtree if gfile.isdir(place) else gfile.remove)(place)
    elif is_folder(place):
        shutil.rmtree(place)
    else:
        Path(place).unlink()


def rename(source: Place, target: Place) -> None:
    """Renames a file, over another that has the new name."""
    if is_uri(target):
        with _gfile(target, "write to") as gfile:
            gfile.rename(source, target, overwrite=True)
    else:
        Path(source).replace(target)


def copy(source: Place, target: Place) -> None:
    """Copies a file from or to a URI, over another; the folder of a local one is made."""
    if not is_uri(target):
        make_folder(Path(target).parent)
    with _gfile(target, "write to") if is_uri(target) else _gfile(source) as gfile:
        gfile.copy(str(source), str(target), overwrite=True)


def sha256_of_file(place: Place) -> bytes:
    """The SHA-256 of a file's content, 32 bytes."""
    with open_file(place) as file:
        return hashlib.file_digest(file, "sha256").digest()


def sha256_of_parts(parts: Iterable[bytes]) -> str:
    """The SHA-256 of bytes that come in parts, in hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def format_bytes(count: float) -> str:
    """Bytes with a decimal unit and three digits: "36.2 MB"."""
    for unit, factor in _BYTE_UNITS:
        if count >= 0.9995 * factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} bytes"


def _local_names(folder: Place) -> Iterator[str]:
    # Not by os.walk, which keeps silent about folders that it cannot read and fails on deep ones.
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(Path(folder, below)) as entries:
                for entry in entries:
                    name = below + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{name}/")
                    elif entry.is_symlink() and Path(entry.path).is_dir():
                        yield f"{name}/"
                    else:
                        yield name
        except OSError as error:
            if not below:
                raise ReadError(f"cannot read {folder}: {error.strerror}") from error
            yield below


def _remote_names(gfile: Any, folder: str, below: str) -> Iterator[str]:
    for entry in gfile.listdir(join(folder, below)):
        name = below + entry
        # Google Cloud Storage marks its folders, and would be asked again for each file.
        marked = folder.startswith("gs://")
        if entry.endswith("/") if marked else gfile.isdir(join(folder, name)):
            yield from _remote_names(gfile, folder, f"{name.rstrip('/')}/")
        else:
            yield name


@contextmanager
def _gfile(place: Place, doing: str = "read") -> Iterator[Any]:
    """TensorFlow's filesystem, whose errors become one line: "cannot read gs://bucket: ..."."""
    # Seconds to import, which a command line that is wrong does not wait for.
    import tensorflow as tf

    failure = ReadError if doing == "read" else StorageError
    scheme = urlsplit(str(place)).scheme
    if scheme not in _schemes():
        known = ", ".join(f"{name}://" for name in sorted(_schemes()) if name)
        raise failure(
            f"cannot {doing} {place}: TensorFlow has no filesystem for {scheme}:// here, only for "
            f"{known}; install a plugin for it (s3:// takes tensorflow-io), or mount the store and "
            "give a folder"
        )
    try:
        yield tf.io.gfile
    except tf.errors.OpError as error:
        raise failure(f"cannot {doing} {place}: {first_line(error)}") from error


@functools.cache
def _schemes() -> frozenset[str]:
    import tensorflow as tf

    return frozenset(tf.io.gfile.get_registered_schemes())


class _RemoteFile(io.RawIOBase):
    """A remote file as Python's archive modules want one."""

    def __init__(self, place: str):
        self._place, self._at = place, 0
        with _gfile(place) as gfile:
            self._file = gfile.GFile(place, "rb")
            self._size = self._file.size()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise OSError(f"{self._place} has no byte at {origin + offset}")
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), max(0, self._size - self._at))
        with _gfile(self._place):
            self._file.seek(self._at)
            data = self._file.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
