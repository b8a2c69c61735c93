"""A run that is told to stop, in training and after it, and goes on when it is started again."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.e2e.runs import ROOT

pytestmark = pytest.mark.slow


@contextmanager
def running(place: Path) -> Iterator[subprocess.Popen]:
    command = [sys.executable, str(ROOT / "pipeline" / "run_local.py"), "--budgets", "150"]
    command += ["--preset", "small", "--data", str(place / "images"), "--root", "stopped here"]
    process = subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def epochs(place: Path) -> list[int]:
    """Those that the newest log tells of."""
    logs = list((place / "stopped here" / "logs").glob("*.log"))
    newest = max(logs, key=lambda path: path.stat().st_mtime_ns, default=None)
    text = newest.read_text() if newest else ""
    return [int(epoch) for epoch in re.findall(r"epoch (\d+): loss", text)]


def stopped(process: subprocess.Popen, number: signal.Signals) -> tuple[str, str]:
    """Sends a signal; gives what was printed, and what on the standard error."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert not any(child.is_running() for child in children)
    return output, errors


def test_a_run_is_stopped_in_training_and_after_it_and_loses_no_epoch(place):
    checkpoints = place / "stopped here" / "checkpoints"
    with running(place) as process:
        deadline = time.monotonic() + 300
        while len(trained := epochs(place)) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        _, errors = stopped(process, signal.SIGTERM)
    line = "stopped by SIGTERM; to go on: python pipeline/run_local.py "
    assert errors.startswith(line)
    assert "--root 'stopped here'" in errors
    assert errors.count("\n") == 1
    assert list(checkpoints.glob("*.npz"))
    trained = epochs(place)
    assert trained[-1] < 150

    with running(place) as process:
        while "Trainer_150" not in (text := process.stdout.readline()):
            assert text
        _, errors = stopped(process, signal.SIGINT)
    assert epochs(place) == list(range(trained[-1] + 1, 151))
    assert errors.startswith(line.replace("SIGTERM", "SIGINT"))
    assert errors.count("\n") == 1
