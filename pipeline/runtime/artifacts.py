"""Artifacts at remote URIs, such as gs://: local copies for what needs files, uploads of what it
wrote. Local paths are used as they are, without a copy.

URIs are strings: `Path("gs://bucket")` loses a slash.
"""

import hashlib
import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final

from keras_ae.concurrency import in_threads
from keras_ae.datasets.sources.storage import is_uri
from keras_ae.errors import StorageError
from keras_ae.training import checkpoints

# What a Trainer leaves in its Model artifact beside the SavedModel.
MODEL: Final = Path("model.keras")
"""The model in Keras's own format, which the SavedModel has to answer as."""
STATE: Final = Path("training_state") / "state.npz"
SUMMARY: Final = Path("training_state") / "summary.json"
FLOOR: Final = Path("training_state") / "floor.npz"

PARALLEL = 8
"""Files that are copied at a time."""
PROVENANCE = Path("assets.extra") / "keras_ae.json"
"""What Pusher notes in the version that it publishes."""
LAST = "saved_model.pb"
"""What readers take for the sign of a whole SavedModel."""

Uri = str | Path


def is_remote(uri: Uri) -> bool:
    """Whether a URI has a scheme, such as gs://, so that it is no path of this machine."""
    return is_uri(str(uri))


def below(uri: Uri, *names: Uri | int) -> str:
    """What lies below a URI by names."""
    return "/".join([str(uri).rstrip("/"), *map(str, names)])


def parent(uri: Uri) -> str:
    """The URI of the folder that something lies in."""
    return str(uri).rstrip("/").rpartition("/")[0]


def name(uri: Uri) -> str:
    """The last part of a URI."""
    return str(uri).rstrip("/").rpartition("/")[2]


def exists(uri: Uri) -> bool:
    """Whether there is a file or a folder."""
    return bool(gfile().exists(str(uri)) if is_remote(uri) else Path(uri).exists())


def names(uri: Uri) -> list[str]:
    """What a remote folder holds; nothing if it does not exist.

    Raises:
        StorageError: if its bucket does not exist or may not be read.
    """
    try:
        return [name(found) for found in gfile().glob(below(uri, "*"))]
    except remote_errors() as error:
        raise StorageError(f"cannot read {uri}: {reason(error)}") from error


def opened(uri: Uri, mode: str = "r") -> IO[Any]:
    """Opens a file as `open` does; one at a remote URI is there when it is closed."""
    if not is_remote(uri):
        return Path(uri).open(mode)
    file: IO[Any] = gfile().GFile(str(uri), mode)
    return file


def read_text(uri: Uri) -> str:
    """The content of a file."""
    with opened(uri) as file:
        return str(file.read())


def sha256(uri: Uri) -> bytes:
    """The SHA-256 of a file's content, 32 bytes."""
    if not is_remote(uri):
        with Path(uri).open("rb") as local:
            return hashlib.file_digest(local, "sha256").digest()
    digest = hashlib.sha256()
    with opened(uri, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()


def copied(source: Uri, target: Uri) -> None:
    """Copies the files of a folder, `saved_model.pb` after all others.

    Raises:
        StorageError: if a remote one fails; some of the files may be there then.
    """
    if not is_remote(source) and not is_remote(target):
        shutil.copytree(source, target, dirs_exist_ok=True)
        return
    files = _files(str(source))
    began = time.monotonic()
    try:
        for last in (False, True):
            _copy([(s, below(target, n)) for n, s in files.items() if (name(n) == LAST) is last])
    except remote_errors() as error:
        raise StorageError(f"cannot copy {source} to {target}: {reason(error)}") from error
    logging.info(
        "%d files from %s to %s in %.1f s", len(files), source, target, time.monotonic() - began
    )


@contextmanager
def fetched(uri: Uri) -> Iterator[Path]:
    """A folder or a file to read: a local copy until the block ends, or the local path itself.

    Raises:
        StorageError: if it cannot be read.
    """
    if not is_remote(uri):
        yield Path(uri)
        return
    with TemporaryDirectory() as folder:
        local = Path(folder) / name(uri)
        if gfile().isdir(str(uri)):
            copied(uri, local)
        else:
            try:
                gfile().copy(str(uri), str(local))
            except remote_errors() as error:
                raise StorageError(f"cannot read {uri}: {reason(error)}") from error
        yield local


@contextmanager
def written(uri: Uri) -> Iterator[Path]:
    """A folder to write, which is made: uploaded when the block ends well, or the local one itself.

    A block that fails uploads nothing.

    Raises:
        StorageError: if it cannot be uploaded.
    """
    if not is_remote(uri):
        Path(uri).mkdir(parents=True, exist_ok=True)
        yield Path(uri)
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)
        copied(folder, uri)


@contextmanager
def kept(uri: Uri) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A checkpoint that outlives this process until the block ends well, and the one before it.

    Gives a local path, where what an earlier process left is found, and a function that saves what
    is there now. A local file is saved where it is, and stays.
    """
    if not is_remote(uri):
        yield Path(uri), lambda: None
        return
    before = below(parent(uri), checkpoints.earlier(Path(name(uri))))

    def save() -> None:
        if exists(uri):
            gfile().rename(str(uri), before, overwrite=True)
        # An object appears when it is whole.
        gfile().copy(str(local), str(uri), overwrite=True)

    with TemporaryDirectory() as folder:
        local = Path(folder) / name(uri)
        for remote, place in ((str(uri), local), (before, checkpoints.earlier(local))):
            if exists(remote):
                gfile().copy(remote, str(place))
                logging.info("goes on from %s", remote)
        yield local, save
    for remote in (str(uri), before):
        if exists(remote):
            gfile().remove(remote)


def _files(folder: str) -> dict[str, str]:
    """The files of a folder: their names below it, sorted, and their URIs."""
    found = {}
    for place, _, files in gfile().walk(folder):
        for each in files:
            uri = below(place, each)
            found[uri.removeprefix(folder.rstrip("/") + "/")] = uri
    return dict(sorted(found.items()))


def _copy(pairs: list[tuple[str, str]]) -> None:
    files = gfile()

    def copy(pair: tuple[str, str]) -> None:
        source, target = pair
        if not is_remote(target):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        files.copy(source, target, overwrite=True)

    deque(in_threads(copy, pairs, PARALLEL), 0)


def gfile() -> Any:
    # Seconds to import, which a command line that is wrong does not wait for.
    import tensorflow as tf

    return tf.io.gfile


def remote_errors() -> tuple[type[Exception], ...]:
    import tensorflow as tf

    return OSError, tf.errors.OpError


def reason(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def model_digest(model: Path) -> str:
    """SHA-256 over the names and contents of a SavedModel's files, but for what `publish` adds."""
    digest = hashlib.sha256()
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        if path == model / PROVENANCE:
            continue
        digest.update(path.relative_to(model).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
