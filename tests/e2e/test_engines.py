"""The whole job on worker processes gives what it gives in one."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.runs import Run

pytestmark = pytest.mark.slow
CLOCK = {"seconds", "stage_seconds", "total_seconds", "per_second", "tiles_per_second"}
OF_THE_RUN = {"created", "command", "id"}


def told(value):
    """A comparison without what differs between two runs of the same."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in CLOCK | OF_THE_RUN}
        return {k: told(v) for k, v in kept.items()}
    return [told(v) for v in value] if isinstance(value, list) else value


def comparison(root: Path) -> dict:
    return told(json.loads((root / "comparison.json").read_text()))


def weights(root: Path) -> dict[str, str]:
    """Digests of the variables of the trained models and of the transform, by place."""
    files = root.glob("artifacts/*/*/*/*/**/variables.data*")
    digests = {}
    for file in files:
        component, output, _, *rest = file.relative_to(root).parts[2:]
        key = "/".join([component, output, *rest])
        digests[key] = hashlib.sha256(file.read_bytes()).hexdigest()
    return digests


def test_two_workers_choose_and_train_what_one_does(place):
    flags = ("--budgets", "1", "--preset", "small")
    one = Run(place, *flags, root="one")
    assert one.status == 0, one.errors
    two = Run(place, *flags, "--workers", "2", root="two")
    assert (two.status, two.errors) == (0, "")
    assert list(two.nodes) == list(one.nodes)
    assert comparison(place / "two") == comparison(place / "one")
    assert weights(place / "two") == weights(place / "one") != {}
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert f"--root {place}" not in running
    again = Run(place, *flags, "--workers", "2", root="one")
    assert again.status == 0, again.errors
    uncached = {name for name in again.nodes if not again.cached(name)}
    assert uncached <= {"Evaluator", "ServingCheck", "Pusher", "Report"}
