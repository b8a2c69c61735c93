"""Files with several parts, of which `--data` may name one, as in `images.npz:x_train`."""

import functools
import re
from pathlib import Path

from keras_ae import storage
from keras_ae.datasets.sources.base import status_digest
from keras_ae.errors import DataError

_PART = re.compile(r"(?P<path>.+):(?P<part>[^:/\\]+)")
MAX_NAMES = 6
"""Maximum number of names in a message."""


def split_part(data: str) -> tuple[str, str]:
    """Splits data into a path or URI and the name of a part, which may be empty.

    >>> split_part("gs://bucket/images.npz:x_train"), split_part("images.npz")
    (('gs://bucket/images.npz', 'x_train'), ('images.npz', ''))
    """
    match = _PART.fullmatch(data)
    if match is None or (not storage.is_uri(data) and Path(data).exists()):
        return data, ""
    return match["path"], match["part"]


def list_names(names: list[str]) -> str:
    """The first of some names on one line, with the number of the others.

    >>> list_names(["a", "b"])
    'a, b'
    """
    rest = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {rest:,} more" if rest > 0 else "")


def fingerprint_of_file(path: str) -> str:
    """SHA-256 of a file; for a URI of its name, size and modification time.

    Raises:
        DataError: if the file cannot be read.
    """
    if storage.is_uri(path):
        return status_digest({path: storage.get_status(path)})
    try:
        stats = Path(path).stat()
        version = stats.st_ino, stats.st_size, stats.st_mtime_ns, stats.st_ctime_ns
        return _digest(path, version)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


@functools.lru_cache(maxsize=4096)
def _digest(path: str, version: tuple[int, ...]) -> str:
    """SHA-256 of a local file, cached in this process until the file changes."""
    return storage.sha256_of_file(path).hex()
