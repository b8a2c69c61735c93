"""Files of training states: whole or not there, checked when they are read, the last two kept."""

import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from keras_ae import durable
from keras_ae.errors import DamagedError, StorageError

_NO_COMMENT = b"\0\0"
_DIGEST = hashlib.sha256().digest_size


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as an NPZ file, whose comment is the SHA-256 of all before it.

    At any moment, also one at which the machine loses its power, the file is the old or the new
    one.

    Raises:
        StorageError: if it cannot be written.
    """
    _write(path, arrays, keep=False)


def write_checkpoint(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Like `write`, and keeps what was there as `earlier(path)`; see `read_checkpoint`.

    Raises:
        StorageError: if it cannot be written.
    """
    _write(path, arrays, keep=True)


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads what `write` wrote.

    Raises:
        DamagedError: if it is not what was written, to the bit.
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
            f"{len(content):,} bytes; delete it, and the stage is trained anew"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def earlier(path: Path) -> Path:
    """Where the checkpoint before the one at `path` is kept."""
    return path.with_name(f"{path.stem}.earlier{path.suffix}")


def read_checkpoint(path: Path, say: Callable[[str], None]) -> dict[str, np.ndarray] | None:
    """Reads the last checkpoint that is whole; one that is not is deleted.

    Args:
        path: of the last one.
        say: takes a line if that one is damaged.

    Returns:
        The arrays, or None if there is no whole one.

    Raises:
        StorageError: if one cannot be read.
    """
    arrays, damaged = None, []
    for each in filter(Path.exists, (path, earlier(path))):
        try:
            arrays = read(each)
            break
        except DamagedError:
            damaged.append(each)
    for each in damaged:
        each.unlink(missing_ok=True)
    if damaged and arrays:
        at = f"goes on from the one before it, in epoch {int(arrays['epoch']) + 1}"
        say(f"the checkpoint {path} is damaged: the stage {at}")
    elif damaged:
        say(f"the checkpoint {damaged[0]} is damaged: the stage begins anew")
    return arrays


def _write(path: Path, arrays: Mapping[str, np.ndarray], keep: bool) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
    digest = hashlib.sha256(buffer.getbuffer()).digest()
    buffer.seek(-len(_NO_COMMENT), io.SEEK_END)
    buffer.write(_length() + digest)
    try:
        durable.write(path, buffer.getbuffer(), backup=earlier(path) if keep else None)
    except OSError as error:
        raise StorageError(f"cannot write the training state {path}: {error.strerror}") from error


def _length() -> bytes:
    """The length of the comment as an archive's last record gives it."""
    return _DIGEST.to_bytes(2, "little")
