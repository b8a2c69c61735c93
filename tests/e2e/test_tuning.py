"""A ladder whose model was found by a search, on a folder of photographs."""

import json
import re

import pytest

from tests.e2e.runs import Run

pytestmark = pytest.mark.slow


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
