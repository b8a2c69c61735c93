"""Artifacts at remote URIs, such as gs://: local copies for what needs files, uploads of what it
wrote. Local paths are used as they are, without a copy.

URIs are strings: `Path("gs://bucket")` loses a slash.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any

from keras_ae import states
from keras_ae.datasets.storage import is_uri
from keras_ae.errors import StorageError

PARALLEL = 8
"""Files that are copied at a time."""
LAST = "saved_model.pb"
"""What readers take for the sign of a whole SavedModel."""
SECONDS = 10
"""For an answer to whether a bucket can be used."""
PERMISSIONS = tuple(f"storage.objects.{what}" for what in ("create", "delete", "get", "list"))

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
    return bool(_gfile().exists(str(uri)) if is_remote(uri) else Path(uri).exists())


def names(uri: Uri) -> list[str]:
    """What a remote folder holds; nothing if it does not exist.

    Raises:
        StorageError: if its bucket does not exist or may not be read.
    """
    try:
        return [name(found) for found in _gfile().glob(below(uri, "*"))]
    except _errors() as error:
        raise StorageError(f"cannot read {uri}: {_reason(error)}") from error


def opened(uri: Uri, mode: str = "r") -> IO[Any]:
    """Opens a file as `open` does; one at a remote URI is there when it is closed."""
    if not is_remote(uri):
        return Path(uri).open(mode)
    file: IO[Any] = _gfile().GFile(str(uri), mode)
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
    except _errors() as error:
        raise StorageError(f"cannot copy {source} to {target}: {_reason(error)}") from error
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
        if _gfile().isdir(str(uri)):
            copied(uri, local)
        else:
            try:
                _gfile().copy(str(uri), str(local))
            except _errors() as error:
                raise StorageError(f"cannot read {uri}: {_reason(error)}") from error
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
    before = below(parent(uri), states.earlier(Path(name(uri))))

    def save() -> None:
        if exists(uri):
            _gfile().rename(str(uri), before, overwrite=True)
        # An object appears when it is whole.
        _gfile().copy(str(local), str(uri), overwrite=True)

    with TemporaryDirectory() as folder:
        local = Path(folder) / name(uri)
        for remote, place in ((str(uri), local), (before, states.earlier(local))):
            if exists(remote):
                _gfile().copy(remote, str(place))
                logging.info("goes on from %s", remote)
        yield local, save
    for remote in (str(uri), before):
        if exists(remote):
            _gfile().remove(remote)


def check_reachable(uri: Uri) -> None:
    """Asks whether a root can be written, without waiting for long.

    Raises:
        StorageError: in one line, for a folder that cannot be written, a scheme that TensorFlow has
            no filesystem for, a bucket that does not exist or may not be used, missing credentials
            and a host that does not answer.
    """
    if not is_remote(uri):
        _check_folder(Path(uri))
    elif str(uri).startswith("gs://"):
        _check_bucket(str(uri))
    else:
        _check_other(str(uri))


def _check_folder(place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
        # It has no name that a killed process could leave.
        with TemporaryFile(dir=place) as probe:
            probe.write(b"x")
    except OSError as error:
        raise StorageError(f"cannot write to {place}: {error.strerror}") from error


def _check_bucket(uri: str) -> None:
    """By Google's client: TensorFlow's filesystem would try for minutes."""
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.cloud import storage
    from requests.exceptions import RequestException

    bucket = uri.removeprefix("gs://").partition("/")[0]
    try:
        # The project has no part in this question, and the client would look for one.
        client = storage.Client(project="none")
        asked = client.bucket(bucket)
        granted = asked.test_iam_permissions(list(PERMISSIONS), timeout=SECONDS, retry=None)
    except exceptions.NotFound as error:
        raise StorageError(f"cannot write to {uri}: there is no bucket {bucket}") from error
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
        raise StorageError(
            f"cannot write to {uri}: these credentials may not use the bucket; grant them "
            "the role Storage Object Admin on it"
        ) from error
    except (exceptions.GoogleAPIError, RequestException, TransportError, ValueError) as error:
        raise StorageError(
            f"cannot write to {uri}: Google Cloud Storage does not answer: {_reason(error)}"
        ) from error
    except GoogleAuthError as error:
        raise StorageError(
            f"cannot write to {uri}: no valid credentials of Google Cloud; set "
            "GOOGLE_APPLICATION_CREDENTIALS or run gcloud auth application-default login"
        ) from error
    if missing := sorted(set(PERMISSIONS) - set(granted)):
        raise StorageError(f"cannot write to {uri}: not permitted are {', '.join(missing)}")


def _check_other(uri: str) -> None:
    import tensorflow as tf

    scheme = uri.partition("://")[0]
    probe = below(uri, f".probe-{os.getpid()}")
    try:
        with opened(probe, "wb") as file:
            file.write(b"x")
        _gfile().remove(probe)
    except tf.errors.UnimplementedError as error:
        raise StorageError(
            f"cannot write to {uri}: TensorFlow has no filesystem for {scheme}://; use gs:// or a "
            "folder on a mounted volume (s3:// takes the plugin of tensorflow-io)"
        ) from error
    except _errors() as error:
        raise StorageError(f"cannot write to {uri}: {_reason(error)}") from error


def _files(folder: str) -> dict[str, str]:
    """The files of a folder: their names below it, sorted, and their URIs."""
    found = {}
    for place, _, files in _gfile().walk(folder):
        for each in files:
            uri = below(place, each)
            found[uri.removeprefix(folder.rstrip("/") + "/")] = uri
    return dict(sorted(found.items()))


def _copy(pairs: list[tuple[str, str]]) -> None:
    gfile = _gfile()

    def copy(pair: tuple[str, str]) -> None:
        source, target = pair
        if not is_remote(target):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        gfile.copy(source, target, overwrite=True)

    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(copy, pairs))


def _gfile() -> Any:
    # Seconds to import, which a command line that is wrong does not wait for.
    import tensorflow as tf

    return tf.io.gfile


def _errors() -> tuple[type[Exception], ...]:
    import tensorflow as tf

    return OSError, tf.errors.OpError


def _reason(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
