"""Small disks in memory, and full disks."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mounts a filesystem in memory for the block; skips the test if that is not possible.

    Args:
        folder: mount point, which is created.
        size: size in the syntax of tmpfs, such as "4m".
    """
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root privileges")
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    completed = subprocess.run(mount, capture_output=True, text=True)
    if completed.returncode:
        pytest.skip(f"cannot mount a small disk: {completed.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily, so that a process with an open file does not prevent it.
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def filled(disk: Path, leave: int = 0) -> Iterator[None]:
    """Fills a disk except for `leave` bytes until the end of the block."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb") as file:
            while (space := _free_bytes(disk) - leave) > 0:
                try:
                    os.posix_fallocate(file.fileno(), 0, space)
                    break
                except OSError as error:
                    # Another process has written to the disk in between.
                    if error.errno != errno.ENOSPC:
                        raise
        yield
    finally:
        ballast.unlink()


def _free_bytes(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize
