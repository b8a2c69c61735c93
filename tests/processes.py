"""Processes that end without a parent that waits for them."""

import time

import psutil


def await_end(process: psutil.Process, seconds: float = 60) -> None:
    """Waits until a process is gone, or has ended and nobody asked how."""
    deadline = time.monotonic() + seconds
    while not _ended(process):
        assert time.monotonic() < deadline, f"{process} goes on"
        time.sleep(0.05)


def _ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
