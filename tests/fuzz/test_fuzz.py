import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
RUNS = {
    ("headers", "pixels", "sent"): 1_000,
    ("zips", "tars", "arrays", "tables"): 300,
    ("latents",): 300,
}


@pytest.mark.parametrize("target", TARGETS)
def test_all_seeds_are_read_or_refused(tmp_path, target):
    inputs = seeds(target, tmp_path)
    assert len(inputs) > 8
    for name, data in inputs.items():
        try:
            TARGETS[target](data)
        except Exception as error:
            raise AssertionError(name) from error


@pytest.mark.parametrize("targets", RUNS)
def test_short_fuzzing_runs_find_no_fault(tmp_path, targets):
    pytest.importorskip("atheris")
    runs = RUNS[targets]
    program = (sys.executable, "-m", "tests.fuzz", *targets, "--runs", str(runs), "--seed=1")
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join([str(ROOT), *sys.path])}
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count(f"Done {runs} runs") == len(targets)
    assert not list(tmp_path.iterdir())


def test_all_targets_are_fuzzed():
    assert {target for targets in RUNS for target in targets} == set(TARGETS)
