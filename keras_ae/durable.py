"""Files that are whole, or not there, even if the power fails."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def sync(folder: Path) -> None:
    """Waits until a folder, and all below it, is on the disk.

    Raises:
        OSError: if the disk does not take it.
    """
    for place, _, files in os.walk(folder):
        for name in files:
            _sync(Path(place, name))
        _sync(Path(place))


def rename(source: Path, target: Path) -> Path:
    """Renames within a filesystem, and waits until the disk knows.

    Returns:
        The target.

    Raises:
        OSError: if it cannot be renamed, as onto a folder that holds files.
    """
    source.rename(target)
    _sync(target.parent)
    return target


def write(path: Path, data: bytes | memoryview, *, earlier: Path | None = None) -> None:
    """Replaces a file's content in one step; its folder is made if missing.

    Args:
        path: the file.
        data: its new content.
        earlier: where the file that was there is kept.

    Raises:
        OSError: if it cannot be written; the earlier content is kept then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replaced(path, earlier) as partial:
        partial.write_bytes(data)


def copy(source: Path, target: Path) -> None:
    """Replaces a file's content by another's in one step.

    Raises:
        OSError: if it cannot be written; the earlier content is there then.
    """
    with _replaced(target, None) as partial:
        shutil.copyfile(source, partial)


@contextmanager
def _replaced(path: Path, earlier: Path | None) -> Iterator[Path]:
    """A file to write, which then takes the place of another."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        _sync(partial)
        if earlier:
            with suppress(FileNotFoundError):
                path.replace(earlier)
        rename(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some filesystems sync files only.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
