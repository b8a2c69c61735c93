"""Disks that are small enough to be filled."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A folder with a filesystem in memory of its own; what needs it is skipped without root.

    Args:
        place: the folder, which is made.
        size: as tmpfs takes it, such as "4m".
    """
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        # Lazily: what still has a file open there must not keep the folder.
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def filled(disk: Path, leave: int = 0) -> Iterator[None]:
    """A disk that is full but for some bytes, until the end of the block."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb") as file:
            while (space := _space(disk) - leave) > 0:
                try:
                    os.posix_fallocate(file.fileno(), 0, space)
                    break
                except OSError as error:
                    # Somebody else has taken of it in between.
                    if error.errno != errno.ENOSPC:
                        raise
        yield
    finally:
        ballast.unlink()


def _space(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize
