"""Files of training states: written atomically, with a checksum; the last two are kept."""

import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from keras_ae import durable
from keras_ae.errors import DamagedError, StorageError

_NO_COMMENT = b"\0\0"
"""The last field of a ZIP file without a comment: the length of the comment."""
_DIGEST = hashlib.sha256().digest_size


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as an NPZ file whose comment is the SHA-256 of everything before it.

    NPZ is a ZIP file, so NumPy reads the result as usual. The write is atomic: even after a power
    failure the file is either the old or the new one.

    Raises:
        StorageError: if it cannot be written.
    """
    _write(path, arrays, keep_previous=False)


def write_checkpoint(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Like `write`, and keeps the previous file as `previous(path)`; see `read_checkpoint`.

    Raises:
        StorageError: if it cannot be written.
    """
    _write(path, arrays, keep_previous=True)


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads a file that `write` wrote.

    Raises:
        DamagedError: if its checksum is wrong.
        StorageError: if it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read the training state {path}: {error.strerror}") from error
    body, digest = content[:-_DIGEST], content[-_DIGEST:]
    length = body[-len(_NO_COMMENT) :]
    original = body[: -len(_NO_COMMENT)] + _NO_COMMENT
    if length != _length() or hashlib.sha256(original).digest() != digest:
        raise DamagedError(
            f"the training state {path} is damaged: its checksum is not that of its "
            f"{len(content):,} bytes; delete it, and the stage is trained again"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def previous(path: Path) -> Path:
    """Returns where the checkpoint before the one at `path` is kept."""
    return path.with_name(f"{path.stem}.earlier{path.suffix}")


def read_checkpoint(path: Path, say: Callable[[str], None]) -> dict[str, np.ndarray] | None:
    """Reads the last intact checkpoint and deletes damaged ones.

    Args:
        path: the last checkpoint.
        say: prints one line if it is damaged.

    Returns:
        The arrays, or None if there is no intact checkpoint.

    Raises:
        StorageError: if a checkpoint cannot be read.
    """
    arrays, damaged = None, []
    for candidate in filter(Path.exists, (path, previous(path))):
        try:
            arrays = read(candidate)
            break
        except DamagedError:
            damaged.append(candidate)
    for candidate in damaged:
        candidate.unlink(missing_ok=True)
    if damaged and arrays:
        epoch = int(arrays["epoch"]) + 1
        say(f"the checkpoint {path} is damaged: resuming from the previous one, in epoch {epoch}")
    elif damaged:
        say(f"the checkpoint {damaged[0]} is damaged: the stage starts from its beginning")
    return arrays


def _write(path: Path, arrays: Mapping[str, np.ndarray], keep_previous: bool) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
    digest = hashlib.sha256(buffer.getbuffer()).digest()
    buffer.seek(-len(_NO_COMMENT), io.SEEK_END)
    buffer.write(_length() + digest)
    try:
        durable.write(path, buffer.getbuffer(), backup=previous(path) if keep_previous else None)
    except OSError as error:
        raise StorageError(f"cannot write the training state {path}: {error.strerror}") from error


def _length() -> bytes:
    """Returns the field of a ZIP file's last record that gives the length of its comment."""
    return _DIGEST.to_bytes(2, "little")
