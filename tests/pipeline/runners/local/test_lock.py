import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from keras_ae.errors import BusyError, StorageError
from pipeline.runners.local import lock

HOLDER = """
import subprocess, sys
from pathlib import Path
from pipeline.runners.local import lock
with lock.locked(Path(sys.argv[1]), "python run_local.py --seed 7", wait="--wait" in sys.argv):
    child = subprocess.Popen(["sleep", "60"])
    print("holds", child.pid, flush=True)
    sys.stdin.read()
    child.kill()
"""


@contextmanager
def holder(root, *flags):
    """A process that acquires the lock, and prints when it has it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root), *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.stdin.close()


def child_of(process) -> int:
    found = re.fullmatch(r"holds (\d+)\n", process.stdout.readline())
    assert found
    return int(found[1])


def test_the_second_in_a_root_is_refused_with_the_owner_of_the_lock(tmp_path):
    with holder(tmp_path) as process:
        child_of(process)
        with pytest.raises(BusyError) as caught, lock.locked(tmp_path, ""):
            pass
        message = (
            rf"{tmp_path} is in use by process {process.pid} on \S+ since 2\S+ \S+: python "
            r"run_local\.py --seed 7; use --wait to wait for it, or a different --root"
        )
        assert re.fullmatch(message, str(caught.value))
    with lock.locked(tmp_path, "") as exclusive:
        assert exclusive


def test_runs_in_different_roots_do_not_block_each_other(tmp_path):
    roots = [tmp_path / name for name in ("one", "two")]
    for root in roots:
        root.mkdir()
    with lock.locked(roots[0], ""), lock.locked(roots[1], "") as exclusive:
        assert exclusive


def test_a_killed_run_leaves_no_lock_even_if_its_child_is_alive(tmp_path):
    with holder(tmp_path) as process:
        child = child_of(process)
        process.kill()
        process.wait()
        os.kill(child, 0)
        try:
            with lock.locked(tmp_path, "") as exclusive:
                assert exclusive
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_run_that_waits_says_so_and_continues_when_the_other_ends(tmp_path):
    with lock.locked(tmp_path, "python first.py"):
        waiting = holder(tmp_path, "--wait")
        process = waiting.__enter__()
        message = process.stdout.readline()
    try:
        child_of(process)
        assert re.fullmatch(
            rf"waiting for process {os.getpid()} on .*: python first.py, which uses {tmp_path}\n",
            message,
        )
    finally:
        waiting.__exit__(None, None, None)


def test_a_lock_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / lock.LOCK).mkdir()
    with (
        pytest.raises(StorageError, match=f"^cannot lock {tmp_path}: .*/lock: Is a directory$"),
        lock.locked(tmp_path, ""),
    ):
        pass


def test_a_filesystem_without_locks_is_reported_and_can_be_used(tmp_path, monkeypatch, capsys):
    def refuse(file, option):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with lock.locked(tmp_path, "") as exclusive:
        assert not exclusive
    assert capsys.readouterr().out == (
        f"note: the filesystem of {tmp_path} has no locks (Operation not supported): make sure "
        "that no other run uses this root\n"
    )
