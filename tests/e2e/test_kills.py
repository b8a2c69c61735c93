"""A run that is killed in a step of each kind, and ends as one that is not."""

import pytest

from benchmarks.kill_log import Log
from benchmarks.kills import Ladder, photographs, verdict

pytestmark = pytest.mark.slow


def test_a_run_that_is_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path):
    data = photographs(tmp_path / "images")
    flags = ["--data", str(data), "--budgets", "250", "--seed", "1"]
    undisturbed = Ladder(tmp_path / "undisturbed", flags)
    usual = undisturbed.finish()
    killed = Ladder(tmp_path / "killed", flags)
    assert killed.kill("Transform", 0.6 * usual["Transform"])
    assert killed.kill("Trainer_250", 0, pattern="checkpoints/*.npz")
    assert killed.kill("Pusher", 0.5 * usual["Pusher"])
    killed.finish()
    assert killed.runs == 4
    assert verdict(killed, undisturbed) == []
    first: dict[str, int] = {}
    for event in Log(killed.root / "logs").events:
        if event.kind == "epoch":
            first.setdefault(event.log, event.epoch)
    began, went_on = first.values()
    assert began == 1
    assert went_on > 1
