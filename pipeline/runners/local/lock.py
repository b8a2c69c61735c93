"""A lock that lets one run at a time use a root; the kernel releases it when the run ends."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from keras_ae.errors import BusyError, StorageError
from pipeline.runtime import console

LOCK = "lock"


@contextmanager
def locked(root: Path, command: str, *, wait: bool = False) -> Iterator[bool]:
    """Locks a root, an existing folder, while the block runs.

    The lock belongs to the open file of this process: its children do not inherit it, and a process
    that is killed leaves none behind. The file's text describes the process that has the lock, with
    its `command`; the file stays, empty, when no process has it.

    Yields:
        Whether no other run uses the root; False on a filesystem without locks.

    Raises:
        BusyError: if another process has the lock and `wait` is False; it names the process.
        StorageError: if the file cannot be written.
    """
    path = root / LOCK
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("a+"))
            exclusive = _acquire(file, root, wait)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            owner = f"process {os.getpid()} on {socket.gethostname()} since {since}: {command}"
            _overwrite(file, owner if exclusive else "")
        except OSError as error:
            raise StorageError(f"cannot lock {root}: {path}: {error.strerror}") from error
        if exclusive:
            stack.callback(_overwrite, file, "")
        yield exclusive


def _acquire(file: TextIO, root: Path, wait: bool) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        owner = file.read().strip() or "another process"
        if not wait:
            raise BusyError(
                f"{root} is in use by {owner}; use --wait to wait for it, or a different --root"
            ) from error
        console.say(f"waiting for {owner}, which uses {root}")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        console.say(
            f"note: the filesystem of {root} has no locks ({error.strerror}): make sure that no "
            "other run uses this root"
        )
        return False
    return True


def _overwrite(file: TextIO, text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()
