"""One run at a time in a root: a lock that a process holds, and that goes when it dies."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from keras_ae.errors import BusyError, StorageError
from pipeline.runtime import console

LOCK = "lock"


@contextmanager
def held(root: Path, command: str, *, wait: bool = False) -> Iterator[bool]:
    """Holds the lock of a root while the block runs; no child of this process inherits it.

    The kernel holds it for the process, so that none is left by one that was killed. The file says
    who holds it; it stays, empty, when nobody does.

    Args:
        root: folder, which exists.
        command: what is told of this process to others.
        wait: whether to wait for another process that holds it.

    Yields:
        Whether this process is alone; False on a filesystem without locks.

    Raises:
        BusyError: if another process holds it, with its number, machine, command and beginning.
        StorageError: if the file cannot be written.
    """
    path = root / LOCK
    try:
        file = path.open("a+")
    except OSError as error:
        raise StorageError(f"cannot lock {root}: {path}: {error.strerror}") from error
    with file:
        alone = _take(file, root, wait)
        try:
            _note(file, _me(command) if alone else "")
        except OSError as error:
            raise StorageError(f"cannot lock {root}: {path}: {error.strerror}") from error
        try:
            yield alone
        finally:
            if alone:
                _note(file, "")


def _take(file: TextIO, root: Path, wait: bool) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        who = file.read().strip() or "another process"
        if not wait:
            raise BusyError(
                f"{root} is in use by {who}; use --wait to wait for it, or a different --root"
            ) from error
        console.say(f"waiting for {who}, which uses {root}")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        console.say(
            f"note: the filesystem of {root} has no locks ({error.strerror}): see to it that no "
            "other run uses this root"
        )
        return False
    return True


def _me(command: str) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"process {os.getpid()} on {socket.gethostname()} since {since}: {command}"


def _note(file: TextIO, text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()
