"""The end of processes that are not children of this one."""

import time

import psutil


def await_end(process: psutil.Process, seconds: float = 60) -> None:
    """Waits until a process has ended; it may be a zombie then."""
    deadline = time.monotonic() + seconds
    while not _has_ended(process):
        assert time.monotonic() < deadline, f"{process} has not ended after {seconds} s"
        time.sleep(0.05)


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
