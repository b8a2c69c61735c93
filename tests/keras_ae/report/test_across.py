"""`python -m keras_ae.report compare`, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from keras_ae.report.__main__ import main
from tests.keras_ae.report.reports import make_comparison

ROOT = Path(__file__).parents[3]


def write_run(root: Path, gain: float, **facts) -> Path:
    """Writes the files of a run with 12 test images under its root."""
    root.mkdir(parents=True)
    comparison = make_comparison(full=False)
    comparison["run"] = {"preset": "medium", "parameters": 316816, "data": "photos", **facts}
    (root / "comparison.json").write_text(json.dumps(comparison))
    budgets = len(comparison["budgets"])
    with (root / "images.jsonl").open("w") as file:
        for i in range(12):
            psnr = [[28 + i / 2 + gain * (1 + i / 100)] * budgets]
            scores = {"model": {"psnr": psnr, "ssim": [[0.9] * budgets]}}
            row = {"split": "test", "digest": f"{i:016x}", "scores": scores}
            file.write(json.dumps(row) + "\n")
    return root


@pytest.fixture
def run(tmp_path):
    """Runs the command line without TensorFlow: run(*arguments) -> CompletedProcess."""

    def runs(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "keras_ae.report", "compare", *map(str, arguments)],
            cwd=ROOT,
            env={"KERAS_BACKEND": "jax", "PATH": "/usr/bin:/bin", "MPLCONFIGDIR": str(tmp_path)},
            capture_output=True,
            text=True,
        )

    return runs


def test_runs_are_compared_on_the_terminal_as_a_page_and_as_json(run, tmp_path):
    one = write_run(tmp_path / "runs" / "a<b>", 0.0)
    two = write_run(tmp_path / "runs" / "large", 0.5, preset="large")
    completed = run(one, two, "--html", tmp_path / "c.html", "--json", tmp_path / "c.json")
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr == ""
    assert "large minus a<b>: +0.53 (+0.52 to +0.54) dB" in completed.stdout
    assert "paired over the 12 test images, which are the same in both runs" in completed.stdout
    (pair,) = json.loads((tmp_path / "c.json").read_text())["pairs"]
    assert pair["psnr"]["mean"] == pytest.approx(0.5275)
    page = (tmp_path / "c.html").read_text()
    assert "a&lt;b&gt;" in page
    assert "a<b>" not in page
    assert "+0.53" in page
    assert page.count("<svg") == 2
    assert page.startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["one"], "expected two or more runs; got 1"),
        (["one", "none"], "none: No such file or directory; expected the --root of a finished run"),
        (["one", "two", "--json", "no/such/folder.json"], "cannot write no/such/folder.json"),
    ],
)
def test_errors_are_one_line(tmp_path, arguments, reason, capsys):
    for name in ("one", "two"):
        write_run(tmp_path / name, 0.0)
    paths = [tmp_path / a if a in ("one", "two", "none") else a for a in arguments]
    assert main(["compare", *map(str, paths)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert reason in line
