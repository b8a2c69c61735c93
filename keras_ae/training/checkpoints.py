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
_DIGEST_BYTES = hashlib.sha256().digest_size
_COMMENT_LENGTH = _DIGEST_BYTES.to_bytes(2, "little")


def write(path: Path, arrays: Mapping[str, np.ndarray], *, keep_previous: bool = False) -> None:
    """Writes arrays as an NPZ file whose comment is the SHA-256 of everything before it.

    NPZ is a ZIP file, so NumPy reads the result as usual. The write is atomic: even after a power
    failure the file is either the old or the new one. The old one can be kept as `previous(path)`.
    Raises StorageError if it cannot be written.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
    digest = hashlib.sha256(buffer.getbuffer()).digest()
    buffer.seek(-len(_NO_COMMENT), io.SEEK_END)
    buffer.write(_COMMENT_LENGTH + digest)
    try:
        durable.write(path, buffer.getbuffer(), backup=previous(path) if keep_previous else None)
    except OSError as error:
        raise StorageError(f"cannot write the training state {path}: {error.strerror}") from error


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
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    original = body.removesuffix(_COMMENT_LENGTH) + _NO_COMMENT
    if not body.endswith(_COMMENT_LENGTH) or hashlib.sha256(original).digest() != digest:
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
    """Reads the last intact checkpoint, if there is one; deletes damaged ones, in a line to `say`.

    Raises StorageError if a checkpoint cannot be read.
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
        say(f"the checkpoint {damaged[0]} is damaged: the stage starts over")
    return arrays
