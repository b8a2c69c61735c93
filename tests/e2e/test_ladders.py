"""Ladders that are cut off, tuned, or trained beside each other, on a folder of photographs."""

import json
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.runs import ROOT, Run

pytestmark = pytest.mark.slow


def saved_epochs(root: Path) -> int:
    """Whole epochs in the newest checkpoint."""
    found = 0
    for path in root.glob("checkpoints/*.npz"):
        # It becomes the earlier one when the next is saved.
        with suppress(FileNotFoundError), np.load(path) as state:
            found = max(found, int(state["epoch"]))
    return found


def test_a_killed_run_goes_on_from_its_checkpoint(place):
    flags = ["--budgets", "250", "--seed", "1"]
    root = place / "killed"
    command = [sys.executable, str(ROOT / "pipeline" / "run_local.py"), *flags]
    command += ["--data", str(place / "images"), "--root", str(root)]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not saved_epochs(root):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    newest = max((root / "logs").iterdir(), key=lambda path: path.stat().st_mtime)
    epochs = [int(epoch) for epoch in re.findall(r"epoch (\d+): loss", newest.read_text())]
    assert epochs[0] > 1
    assert epochs[-1] == 250
    assert not list(root.glob("checkpoints/*"))


def test_a_tuned_run_trains_what_the_search_found_and_lists_its_trials(place):
    flags = ["--tune", "2", "--tune-epochs", "1", "--budgets", "1,2", "--tune-parameters", "30000"]
    tuned = Run(place, *flags, root="tuned")
    assert tuned.status == 0, tuned.errors
    assert tuned.errors == ""
    nodes = list(tuned.nodes)
    assert nodes.index("Transform") + 1 == nodes.index("Tuner") == nodes.index("Trainer_1") - 1
    assert len(re.findall(r"^    trial \d of 2: width .* dB$", tuned.out, re.MULTILINE)) == 2
    comparison = json.loads((place / "tuned" / "comparison.json").read_text())
    best, other = comparison["trials"]
    assert best["taken"]
    assert not other["taken"]
    assert best["val_psnr"] >= other["val_psnr"]
    assert best["parameters"] <= 30000
    assert re.search(rf"^tuned: width {best['width']}, .* on val", tuned.out, re.MULTILINE)
    report = (place / "tuned" / "report.html").read_text()
    assert f'{best["trial"]} <span class="ends">taken' in report
    assert "medium tuned" in report
    assert f"{best['parameters']:,}" in report
    summaries = list((place / "tuned" / "artifacts").glob("*/Trainer_[12]/model/*/*/summary.json"))
    trained = [json.loads(path.read_text()) for path in summaries]
    trained = [facts for facts in trained if facts["preset"] == "medium tuned"]
    assert [facts["parameters"] for facts in trained] == [best["parameters"]] * 2
    assert [facts["batch_size"] for facts in trained] == [best["batch_size"]] * 2

    again = Run(place, *flags, root="tuned")
    assert again.status == 0, again.errors
    for node in ("Tuner", "Trainer_1", "Trainer_2", "BudgetComparison"):
        assert again.cached(node)
    assert "trained nothing" in again.out


def test_further_seeds_and_a_baseline_join_a_run_that_was_made_without(place):
    flags = ["--budgets", "1,2", "--preset", "small"]
    alone = Run(place, *flags, root="several")
    assert alone.status == 0, alone.errors
    several = Run(place, *flags, "--seeds", "2", "--with-baseline", root="several")
    assert several.status == 0, several.errors
    trainers = [node for node in several.nodes if node.startswith("Trainer")]
    ladders = [[f"Trainer_{n}" for n in ("1", "2")], [f"Trainer_{n}_seed_1" for n in ("1", "2")]]
    ladders.append([f"Trainer_baseline_{n}" for n in ("1", "2")])
    assert trainers == [trainer for ladder in ladders for trainer in ladder]
    assert [several.cached(trainer) for trainer in trainers] == [True, True, *[False] * 4]
    root = place / "several"
    comparison = json.loads((root / "comparison.json").read_text())
    assert comparison["seeds"]["seeds"] == comparison["run"]["seeds"] == [0, 1]
    assert comparison["baseline"]["preset"] == "baseline"
    assert "--seeds 2 --with-baseline" in comparison["run"]["command"]
    nodes = {entry["node"] for entry in comparison["run"]["lineage"]}
    assert {*trainers, "Evaluator", "ServingCheck"} <= nodes
    assert isinstance(comparison["verdict"]["blessed"], bool)
    assert (root / "images.jsonl").stat().st_size > 0
    assert list(root.glob("artifacts/*/Report/report/*/tensorboard/baseline/val/events*"))
