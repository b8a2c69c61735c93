"""The same file operations for local paths and for URIs that TensorFlow reads, such as gs://.

A URI is a str, because `Path("gs://bucket")` loses a slash. Only URIs need TensorFlow. A failure
raises OSError for a local path, and for a URI, with a message of one line, StorageError or its
subclass ReadError.

URIs go through `tf.io.gfile` directly and not through `etils.epath`, which is built on it: epath
rounds modification times to seconds, so that a fingerprint would miss a change; its files cannot be
read from any position, which archives need; it does not convert most of TensorFlow's errors; and it
supports only the schemes gs, s3, az and hf.
"""

import functools
import hashlib
import io
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

from keras_ae.concurrency import map_in_threads
from keras_ae.errors import DataError, ReadError, StorageError, first_line

PathOrUri = str | Path

PARALLEL_REQUESTS = 32
"""Number of concurrent requests to a remote store."""
_BUFFER_BYTES = 2**20
_BYTE_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


class Status(NamedTuple):
    """Size in bytes and modification time in nanoseconds; both are 0 if the file does not exist."""

    size: int
    mtime_ns: int


def is_uri(path: PathOrUri) -> bool:
    """Whether this is a URI; anything else is a local path."""
    return "://" in str(path)


def join(folder: PathOrUri, *names: PathOrUri | int) -> str:
    """The path or URI of an entry below a folder."""
    if not is_uri(folder):
        return str(Path(folder, *map(str, names)))
    return "/".join([str(folder).rstrip("/"), *map(str, names)])


def parent(path: PathOrUri) -> str:
    """The folder that contains a file or a folder."""
    if not is_uri(path):
        return str(Path(path).parent)
    return str(path).rstrip("/").rpartition("/")[0]


def name(path: PathOrUri) -> str:
    """The last component of a path or URI."""
    return str(path).rstrip("/").rpartition("/")[2]


def is_folder(path: PathOrUri) -> bool:
    """Whether a folder exists."""
    if not is_uri(path):
        return Path(path).is_dir()
    with _gfile(path) as gfile:
        return bool(gfile.isdir(path))


def exists(path: PathOrUri) -> bool:
    """Whether a file or a folder exists."""
    if not is_uri(path):
        return Path(path).exists()
    with _gfile(path) as gfile:
        return bool(gfile.exists(path))


def list_names(folder: PathOrUri) -> list[str]:
    """Names of the entries of a folder; empty if it does not exist (its bucket must exist)."""
    if not is_uri(folder):
        return [path.name for path in Path(folder).iterdir()] if is_folder(folder) else []
    with _gfile(folder) as gfile:
        return [name(entry) for entry in gfile.glob(join(folder, "*"))]


def walk_names(folder: PathOrUri) -> Iterator[str]:
    """Names of the files below a folder, relative to it, with slashes, in no particular order.

    Links to folders and unreadable folders are not entered; their names end in a slash. Raises
    ReadError if the folder itself cannot be read, also for a local path.
    """
    if not is_uri(folder):
        yield from (name for name, _ in walk_local(folder))
        return
    with _gfile(folder) as gfile:
        yield from _remote_names(gfile, str(folder), "")


def walk_local(
    folder: PathOrUri, start: str = "", may_enter: Callable[[Path], bool] = lambda path: True
) -> Iterator[tuple[str, bool]]:
    """The names of `walk_names` below a local folder, and whether each is a link to a folder.

    Args:
        folder: path to which the names are relative.
        start: subfolder where to begin, empty or with a slash at its end.
        may_enter: whether to enter a folder; an OSError of it makes the folder unreadable.
    """
    # os.walk ignores unreadable folders silently and fails on deep ones.
    pending = [start]
    while pending:
        subfolder = pending.pop()
        path = Path(folder, subfolder)
        try:
            if not may_enter(path):
                continue
            with os.scandir(path) as entries:
                for entry in entries:
                    name = subfolder + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{name}/")
                    elif entry.is_symlink() and Path(entry.path).is_dir():
                        yield f"{name}/", True
                    else:
                        yield name, False
        except OSError as error:
            if not subfolder:
                raise ReadError(f"cannot read {folder}: {error.strerror}") from error
            yield subfolder, False


def glob(*patterns: str) -> list[str]:
    """The files that match any pattern, sorted; only the last component may have wildcards."""
    files: list[str] = []
    for pattern in patterns:
        if is_uri(pattern):
            with _gfile(pattern) as gfile:
                files += gfile.glob(pattern)
        else:
            files += map(str, Path(pattern).parent.glob(Path(pattern).name))
    return sorted(files)


def get_statuses(folder: PathOrUri, names: Sequence[str]) -> list[Status]:
    """The statuses of files of a folder; a remote store gets one request per file."""
    threads = PARALLEL_REQUESTS if is_uri(folder) else 1
    return list(map_in_threads(lambda name: get_status(join(folder, name)), names, threads))


def get_status(path: PathOrUri) -> Status:
    """Size and modification time of a file."""
    if is_uri(path):
        import tensorflow as tf

        with _gfile(path) as gfile, suppress(tf.errors.NotFoundError):
            remote = gfile.stat(path)
            return Status(remote.length, remote.mtime_nsec)
        return Status(0, 0)
    with suppress(OSError):
        local = Path(path).stat()
        return Status(local.st_size, local.st_mtime_ns)
    return Status(0, 0)


def open_file(path: PathOrUri) -> io.BufferedReader:
    """Opens a regular file for reading at any position.

    Raises OSError for a local path that does not exist or is a pipe, a socket or a device.
    """
    if not is_uri(path):
        # Opening a pipe would wait for a writer, and a device may have no end.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise OSError(None, "not a regular file", path)
        return Path(path).open("rb")
    return io.BufferedReader(_RemoteFile(str(path)), _BUFFER_BYTES)


def read_file(path: PathOrUri, max_bytes: int | None = None) -> bytes:
    """Reads a whole file; raises DataError if it is larger than `max_bytes`."""
    with open_file(path) as file:
        return read_rest(file, max_bytes)


def read_rest(file: io.BufferedReader, max_bytes: int | None = None) -> bytes:
    """Reads a whole file that is open at its beginning.

    Raises:
        DataError: if it is larger than `max_bytes`.
    """
    size = file.seek(0, os.SEEK_END)
    if max_bytes is not None and size > max_bytes:
        raise DataError(f"a file of {size:,} bytes, more than the limit of {max_bytes:,}")
    file.seek(0)
    return file.read(size)


@contextmanager
def create_file(path: PathOrUri) -> Iterator[IO[bytes]]:
    """Opens a file for writing; a file at a URI appears when the block ends."""
    if not is_uri(path):
        with Path(path).open("wb") as local:
            yield local
        return
    with _gfile(path, "write to") as gfile, gfile.GFile(path, "wb") as file:
        yield file


def write_file(path: PathOrUri, data: bytes) -> None:
    """Writes a whole file."""
    with create_file(path) as file:
        file.write(data)


def make_folder(path: PathOrUri) -> None:
    """Creates a folder and its missing parents."""
    if is_uri(path):
        with _gfile(path, "write to") as gfile:
            gfile.makedirs(path)
    else:
        Path(path).mkdir(parents=True, exist_ok=True)


def remove(path: PathOrUri) -> None:
    """Removes a file, or a folder with everything in it."""
    if is_uri(path):
        with _gfile(path, "remove") as gfile:
            (gfile.rmtree if gfile.isdir(path) else gfile.remove)(path)
    elif is_folder(path):
        shutil.rmtree(path)
    else:
        Path(path).unlink()


def rename(source: PathOrUri, target: PathOrUri) -> None:
    """Renames a file; replaces an existing file at the new path."""
    if is_uri(target):
        with _gfile(target, "write to") as gfile:
            gfile.rename(source, target, overwrite=True)
    else:
        Path(source).replace(target)


def copy(source: PathOrUri, target: PathOrUri) -> None:
    """Copies a file from or to a URI, over an existing one; creates a local target's folder."""
    if not is_uri(target):
        make_folder(Path(target).parent)
    with _gfile(target, f"copy {source} to") if is_uri(target) else _gfile(source) as gfile:
        gfile.copy(str(source), str(target), overwrite=True)


def sha256_of_file(path: PathOrUri) -> bytes:
    """The SHA-256 of a file's content, 32 bytes."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").digest()


def sha256_of_parts(parts: Iterable[bytes]) -> str:
    """The SHA-256 of the concatenated parts, in hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def format_bytes(count: float) -> str:
    """A number of bytes with a decimal unit and three digits, such as "36.2 MB"."""
    for unit, factor in _BYTE_UNITS:
        if count >= 0.9995 * factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} bytes"


def _remote_names(gfile: Any, folder: str, subfolder: str) -> Iterator[str]:
    for entry in gfile.listdir(join(folder, subfolder)):
        name = subfolder + entry
        # Google Cloud Storage lists folders with a slash; isdir would cost a request per entry.
        has_slashes = folder.startswith("gs://")
        if entry.endswith("/") if has_slashes else gfile.isdir(join(folder, name)):
            yield from _remote_names(gfile, folder, f"{name.rstrip('/')}/")
        else:
            yield name


@contextmanager
def _gfile(path: PathOrUri, action: str = "read") -> Iterator[Any]:
    """Yields `tf.io.gfile` and converts its errors to one line: "cannot read gs://bucket: ..."."""
    # The import takes seconds, for which an invalid command line need not wait.
    import tensorflow as tf

    error_class = ReadError if action == "read" else StorageError
    scheme = urlsplit(str(path)).scheme
    if scheme not in _schemes():
        supported = ", ".join(f"{name}://" for name in sorted(_schemes()) if name)
        raise error_class(
            f"cannot {action} {path}: TensorFlow has no filesystem for {scheme}:// here, only for "
            f"{supported}; install a plugin for it (tensorflow-io for s3://), or mount the store "
            "and use the path of the folder"
        )
    try:
        yield tf.io.gfile
    except tf.errors.OpError as error:
        raise error_class(f"cannot {action} {path}: {first_line(error)}") from error


@functools.cache
def _schemes() -> frozenset[str]:
    import tensorflow as tf

    return frozenset(tf.io.gfile.get_registered_schemes())


class _RemoteFile(io.RawIOBase):
    """A seekable remote file, as Python's archive modules need it."""

    _file: Any = None

    def __init__(self, path: str):
        self._path, self._position = path, 0
        with _gfile(path) as gfile:
            self._file = gfile.GFile(path, "rb")
            self._size = self._file.size()

    def readable(self) -> bool:
        return True

    seekable = readable

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise OSError(f"{self._path} has no byte at {origin + offset}")
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), max(0, self._size - self._position))
        with _gfile(self._path):
            self._file.seek(self._position)
            data = self._file.read(count)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed and self._file is not None:
            self._file.close()
        super().close()
