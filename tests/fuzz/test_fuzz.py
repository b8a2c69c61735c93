import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
RUNS = {
    "headers": 3_000,
    "pixels": 1_000,
    "sent": 1_000,
    "zips": 300,
    "tars": 300,
    "arrays": 300,
    "tables": 300,
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


@pytest.mark.parametrize("target", TARGETS)
def test_a_short_fuzzing_run_finds_no_fault(tmp_path, target):
    pytest.importorskip("atheris")
    program = (sys.executable, "-m", "tests.fuzz", target, "--runs", str(RUNS[target]), "--seed=1")
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join([str(ROOT), *sys.path])}
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Done {RUNS[target]} runs" in done.stderr
    assert not list(tmp_path.iterdir())
