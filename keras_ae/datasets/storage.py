"""Files of this machine and at URIs that TensorFlow reads, such as gs://, alike."""

import functools
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from keras_ae.errors import DataError

AT_ONCE = 32
"""Requests to a remote store that wait for their answers together."""
_BUFFER_BYTES = 2**20


class Status(NamedTuple):
    """Size in bytes and time of the last change in nanoseconds; both 0 where there is no file."""

    size: int
    changed: int


def is_uri(place: str) -> bool:
    """Whether a place is a URI; anything else is a path of this machine."""
    return "://" in place


def is_folder(place: str) -> bool:
    """Whether there is a folder.

    Raises:
        DataError: if a remote store cannot be asked.
    """
    if not is_uri(place):
        return Path(place).is_dir()
    with reading(place):
        return bool(_gfile(place).isdir(place))


def exists(place: str) -> bool:
    """Whether there is a file or a folder.

    Raises:
        DataError: if a remote store cannot be asked.
    """
    if not is_uri(place):
        return Path(place).exists()
    with reading(place):
        return bool(_gfile(place).exists(place))


def join(folder: str, name: str) -> str:
    """The place of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_uri(folder) else str(Path(folder, name))


def names_below(folder: str) -> Iterator[str]:
    """Relative names, with slashes, of the files below a folder, in no order.

    Raises:
        DataError: if a remote store cannot be asked.
    """
    if not is_uri(folder):
        yield from _local_names(folder)
        return
    with reading(folder):
        yield from _remote_names(folder, "")


def statuses(folder: str, names: Sequence[str]) -> list[Status]:
    """The status of some files of a folder; a remote store is asked for each of them.

    Raises:
        DataError: if a remote store cannot be asked.
    """
    if not is_uri(folder):
        return [status(join(folder, name)) for name in names]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda name: status(join(folder, name)), names))


def status(place: str) -> Status:
    """The status of a file.

    Raises:
        DataError: if a remote store cannot be asked.
    """
    if is_uri(place):
        import tensorflow as tf

        with reading(place):
            try:
                found = _gfile(place).stat(place)
            except tf.errors.NotFoundError:
                return Status(0, 0)
            return Status(found.length, found.mtime_nsec)
    try:
        local = Path(place).stat()
    except OSError:
        return Status(0, 0)
    return Status(local.st_size, local.st_mtime_ns)


def open_file(place: str) -> io.BufferedReader:
    """Opens a file for reading at any position.

    Raises:
        OSError: if a local file cannot be opened.
        DataError: if a remote one cannot.
    """
    if not is_uri(place):
        return Path(place).open("rb")
    return io.BufferedReader(_RemoteFile(place), _BUFFER_BYTES)


def read_file(place: str) -> bytes:
    """Reads a whole file; raises as `open_file` does."""
    if not is_uri(place):
        return Path(place).read_bytes()
    with reading(place), _gfile(place).GFile(place, "rb") as file:
        return bytes(file.read())


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Turns what TensorFlow raises on a remote store into a DataError of one line.

    Args:
        place: the URI that is read.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        lines = str(error.message).strip().splitlines()
        raise DataError(f"cannot read {place}: {lines[0] if lines else error}") from error


def _local_names(folder: str) -> Iterator[str]:
    seen = set()
    folder = str(Path(folder))
    for place, folders, files in os.walk(folder, followlinks=True):
        # Links may lead in circles.
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        below = place[len(folder) :].lstrip("/")
        yield from (f"{below}/{name}" for name in files) if below else files


def _remote_names(folder: str, below: str) -> Iterator[str]:
    gfile = _gfile(folder)
    for entry in gfile.listdir(join(folder, below)):
        name = below + entry
        # Google Cloud Storage marks its folders, and would be asked again for each file.
        marked = folder.startswith("gs://")
        if entry.endswith("/") if marked else gfile.isdir(join(folder, name)):
            yield from _remote_names(folder, f"{name.rstrip('/')}/")
        else:
            yield name


@functools.cache
def _schemes() -> frozenset[str]:
    import tensorflow as tf

    return frozenset(tf.io.gfile.get_registered_schemes())


def _gfile(place: str) -> Any:
    import tensorflow as tf

    scheme = urlsplit(place).scheme
    if scheme not in _schemes():
        known = ", ".join(f"{name}://" for name in sorted(_schemes()) if name)
        raise DataError(
            f"cannot read {place}: TensorFlow has no filesystem for {scheme}:// here, only for "
            f"{known}; install a plugin for it, or mount the store and give a folder"
        )
    return tf.io.gfile


class _RemoteFile(io.RawIOBase):
    """A remote file as Python's archive modules want one."""

    def __init__(self, place: str):
        self._place, self._size, self._at = place, status(place).size, 0
        with reading(place):
            self._file = _gfile(place).GFile(place, "rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise OSError(f"{self._place} has no byte at {origin + offset}")
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), max(0, self._size - self._at))
        with reading(self._place):
            self._file.seek(self._at)
            data = self._file.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
