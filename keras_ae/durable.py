"""File operations after which a file is complete or absent, even if the power fails."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def sync(folder: Path) -> None:
    """Flushes a folder and everything below it to the disk.

    Raises OSError if the disk cannot store it.
    """
    for subfolder, _, files in os.walk(folder):
        for name in files:
            _sync(Path(subfolder, name))
        _sync(Path(subfolder))


def rename(source: Path, target: Path) -> Path:
    """Renames a file or a folder within a filesystem, flushes the change and returns the target.

    Raises OSError if it cannot be renamed, for example onto a folder that is not empty.
    """
    source.rename(target)
    _sync(target.parent)
    return target


def write(path: Path, data: bytes | memoryview, *, backup: Path | None = None) -> None:
    """Replaces a file's content atomically; creates its folder if it is missing.

    The previous file is kept as `backup`, if that is given. Raises OSError if it cannot be written;
    the previous content is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacement(path, backup) as partial:
        partial.write_bytes(data)


def copy(source: Path, target: Path) -> None:
    """Replaces a file's content with that of another file atomically.

    Raises OSError if it cannot be written; the previous content is kept.
    """
    with _replacement(target, None) as partial:
        shutil.copyfile(source, partial)


@contextmanager
def _replacement(path: Path, backup: Path | None) -> Iterator[Path]:
    """Yields the path of a temporary file, which replaces `path` when the block succeeds."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        _sync(partial)
        if backup:
            with suppress(FileNotFoundError):
                path.replace(backup)
        rename(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some filesystems support fsync of files only, not of folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
