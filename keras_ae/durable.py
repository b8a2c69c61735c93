"""Files that are whole, or not there, even if the power fails."""

import os
from contextlib import suppress
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
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
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
    except OSError:
        # Some filesystems sync files only.
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)
