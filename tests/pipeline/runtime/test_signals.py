"""The effects of SIGINT and SIGTERM on a run."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.runtime import signals
from tests.processes import await_end

LINE = "stopped by {}; to resume, run: python run.py --data 'a b'\n"
HEAD = """
import sys, time
from pipeline.runtime import signals
signals.GRACE_SECONDS = float(sys.argv[1])
def ready():
    print("ready", flush=True)
"""
ENDS = """
with signals.handled("python run.py --data 'a b'") as watch:
    try:
        ready()
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(watch.report())
"""
CONTINUES = """
import subprocess
with signals.handled("python run.py --data 'a b'"):
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    print(child.pid, flush=True)
    while True:
        try:
            ready()
            time.sleep(60)
        except KeyboardInterrupt:
            pass
"""
FINALIZES = """
class Finalized:
    def __del__(self):
        ready()
        while not watch.received:
            time.sleep(0.01)
with signals.handled("python run.py --data 'a b'") as watch:
    try:
        Finalized()
        time.sleep(60)
    except KeyboardInterrupt:
        print("cleared", flush=True)
        sys.exit(watch.report())
"""
DEFERS = """
with signals.handled("python run.py --data 'a b'") as watch:
    try:
        with signals.deferred():
            ready()
            while not signals.requested():
                time.sleep(0.01)
            print("saved", flush=True)
    except KeyboardInterrupt:
        sys.exit(watch.report())
"""


@pytest.fixture
def start():
    """Starts a program with seconds of grace: start(program, seconds)."""
    processes = []

    def started(program: str, seconds: float) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD + program, str(seconds)],
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield started
    for process in processes:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=30)
    return process.returncode, output, errors


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_program_with_a_line_that_says_how_to_resume(start, number, status):
    process = start(ENDS, 60)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert ended(process) == (status, "", LINE.format(number.name))


def test_a_signal_that_comes_in_a_finalizer_counts(start):
    process = start(FINALIZES, 60)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    status, output, errors = ended(process)
    assert (status, output) == (143, "cleared\n")
    assert errors.endswith(LINE.format("SIGTERM"))


@pytest.mark.parametrize("seconds", [0.5, 60])
def test_a_program_that_does_not_stop_is_killed_after_a_while_or_by_a_second_signal(start, seconds):
    process = start(CONTINUES, seconds)
    child = psutil.Process(int(process.stdout.readline()))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "ready\n"
    if seconds == 60:
        process.send_signal(signal.SIGINT)
    status, _, errors = ended(process)
    assert (status, errors) == (143, LINE.format("SIGTERM"))
    await_end(child)


def test_a_program_that_defers_signals_is_not_interrupted_before_it_has_saved(start):
    process = start(DEFERS, 60)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "saved\n", LINE.format("SIGINT"))


def test_without_a_signal_the_earlier_handlers_are_restored():
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    with signals.handled("command"), signals.deferred():
        assert [signal.getsignal(number) for number in numbers] != before
        assert not signals.requested()
    assert [signal.getsignal(number) for number in numbers] == before
    with pytest.raises(KeyboardInterrupt), signals.handled("command"):
        raise KeyboardInterrupt
    assert signal.set_wakeup_fd(-1) == -1
