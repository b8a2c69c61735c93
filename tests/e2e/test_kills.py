"""A run that is killed and stopped again and again, and ends as one that was left alone."""

import signal
from pathlib import Path

import pytest

from benchmarks.kill_log import Event, Log, repeated
from benchmarks.kills import Ladder, photographs, verdict

pytestmark = pytest.mark.slow
# Training is long enough to be hit again and again.
FLAGS = ["--preset", "small", "--budgets", "150", "--seed", "1"]


def events(ladder: Ladder) -> list[Event]:
    return Log(ladder.root / "logs").events


def epochs(ladder: Ladder) -> int:
    """How often one was trained."""
    return sum(event.kind == "epoch" for event in events(ladder))


def assert_it_says_how_to_go_on(ladder: Ladder, number: signal.Signals) -> None:
    assert ladder.status == 128 + number
    line = ladder.said.splitlines()[-1]
    assert line.startswith(f"stopped by {number.name}; to go on: python pipeline/run_local.py ")
    assert f"--root '{ladder.root}'" in line


def test_a_run_that_is_killed_and_stopped_ends_as_an_undisturbed_one(tmp_path: Path):
    flags = [*FLAGS, "--data", str(photographs(tmp_path / "images"))]
    undisturbed = Ladder(tmp_path / "undisturbed", flags)
    usual = undisturbed.finish()
    run = Ladder(tmp_path / "killed and stopped", flags)

    assert run.kill("Transform", 0.6 * usual["Transform"])
    assert run.status == -signal.SIGKILL

    assert run.kill("Trainer_150", 0, ready=lambda: epochs(run) > 20, number=signal.SIGTERM)
    assert_it_says_how_to_go_on(run, signal.SIGTERM)
    assert list(run.root.glob("checkpoints/*.npz"))
    trained = epochs(run)

    assert run.kill("Trainer_150", 0, ready=lambda: epochs(run) > trained + 20)
    assert repeated(events(run)) == []

    assert run.kill("Evaluator", 0.3 * usual["Evaluator"], number=signal.SIGINT)
    assert_it_says_how_to_go_on(run, signal.SIGINT)
    (again,) = repeated(events(run))
    assert again.first > 20

    assert run.kill("Pusher", 0.5 * usual["Pusher"])
    run.finish()
    assert run.runs == 6
    assert verdict(run, undisturbed) == []
