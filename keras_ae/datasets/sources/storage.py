"""Files of this machine and at URIs that TensorFlow reads, such as gs://, alike."""

import functools
import io
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from keras_ae.concurrency import in_threads
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

    Links to folders and folders that cannot be read are not entered: their names end in a slash.

    Raises:
        DataError: if the folder cannot be read, or a remote store cannot be asked.
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
    return list(in_threads(lambda name: status(join(folder, name)), names, AT_ONCE))


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
        OSError: if a local file cannot be opened, or is a folder, a pipe, a socket or a device.
        DataError: if a remote one cannot.
    """
    if not is_uri(place):
        # To open a pipe would wait for a writer, and a device has no end.
        if not stat.S_ISREG(Path(place).stat().st_mode):
            raise OSError(None, "not a regular file", place)
        return Path(place).open("rb")
    return io.BufferedReader(_RemoteFile(place), _BUFFER_BYTES)


def inside(folder: str, name: str) -> str:
    """The place of a file below a folder, which links do not lead out of.

    Args:
        name: one that `names_below` gave.

    Raises:
        OSError: if a link leads nowhere or in a circle, or a folder cannot be read.
        DataError: if it is a link to a folder, or one out of `folder`.
    """
    place = join(folder, name)
    if is_uri(folder):
        return place
    link = Path(place).is_symlink()
    if name.endswith("/") and link:
        raise DataError("a link to a folder, which is not followed; expected the folder itself")
    if name.endswith("/"):
        os.scandir(place).close()
    elif link:
        place = os.path.realpath(place, strict=True)
        if not Path(place).is_relative_to(os.path.realpath(folder)):
            raise DataError(
                "a link out of the folder, which is not followed; expected the image itself"
            )
    return place


def read_file(place: str, most: int) -> bytes:
    """Reads a whole file.

    Args:
        most: bytes that it may have.

    Raises:
        OSError: if a local file cannot be read, as `open_file` does.
        DataError: if it is larger, or a remote one cannot be read.
    """
    if not is_uri(place):
        with open_file(place) as local:
            return local.read(_allowed(os.fstat(local.fileno()).st_size, most))
    with reading(place), _gfile(place).GFile(place, "rb") as file:
        return bytes(file.read(_allowed(file.size(), most)))


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
                raise DataError(f"cannot read {folder}: {error.strerror}") from error
            yield below


def _allowed(size: int, most: int) -> int:
    if size > most:
        raise DataError(f"a file of {size:,} bytes, more than the limit of {most:,}")
    return size


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
