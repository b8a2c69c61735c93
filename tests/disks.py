"""Disks that are small enough to be filled."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BALLAST = "ballast"


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


def fill(disk: Path, leave: int = 0) -> None:
    """Fills a disk but for some bytes; removing the file `ballast` makes space again."""
    status = os.statvfs(disk)
    with (disk / BALLAST).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - leave)
