import json
import math

import numpy as np
import pytest

from keras_ae.comparison import Score, bootstrap_interval, compare, format_table
from keras_ae.errors import DataError

FLOOR = 20.0


def scores_of(psnr: dict[int, dict[str, list[float]]]) -> list[Score]:
    return [
        Score(f"{split}/{i}", split, budget, 10 ** (-value / 10), value, 0.5, math.nan, FLOOR)
        for budget, splits in psnr.items()
        for split, values in splits.items()
        for i, value in enumerate(values)
    ]


def stages_of(*budgets: int) -> list[dict]:
    return [{"stop": budget, "seconds": 2.0} for budget in budgets]


def ladder(**val_means: float) -> dict:
    """A comparison where only the val means differ: ladder(e10=30.0, e100=31.0)."""
    psnr = {
        int(name[1:]): {"train": [33.0], "val": [mean - 1, mean + 1], "test": [29.0, 31.0, 33.0]}
        for name, mean in val_means.items()
    }
    return compare(scores_of(psnr), stages_of(*psnr))


def test_statistics_are_over_source_images_and_skip_what_is_not_defined():
    comparison = ladder(e10=30.0)
    test = comparison["budgets"][0]["splits"]["test"]
    assert test["images"] == 3
    assert test["psnr"]["mean"] == 31.0
    assert test["psnr"]["median"] == 31.0
    assert test["psnr"]["worst_decile"] == 29.0
    assert test["mse"]["worst_decile"] == pytest.approx(10**-2.9)
    assert test["gain_over_floor"] == 11.0
    assert test["ms_ssim"] == {"mean": None, "median": None, "worst_decile": None, "skipped": 3}
    json.dumps(comparison, allow_nan=False)


def test_seconds_add_up_along_the_ladder():
    entries = ladder(e10=30.0, e20=31.0)["budgets"]
    assert [e["stage_seconds"] for e in entries] == [2.0, 2.0]
    assert [e["total_seconds"] for e in entries] == [2.0, 4.0]


@pytest.mark.parametrize(
    ("val", "epochs", "reason", "warning"),
    [
        ({"e10": 30.0}, 10, "10 epochs have the highest val PSNR", None),
        ({"e10": 30.0, "e100": 30.05}, 10, "within 0.1 dB of the best, 30.05 dB at 100", None),
        ({"e10": 30.0, "e100": 31.0}, 100, "no smaller budget comes within", "still rising"),
        ({"e10": 30.0, "e100": 31.0, "e500": 30.0}, 100, "highest", "falls by 1.00 dB from 100"),
        ({"e10": 30.0, "e100": 30.2, "e500": 30.25}, 100, "within 0.1 dB", None),
    ],
)
def test_the_smallest_budget_near_the_best_on_val_is_chosen(val, epochs, reason, warning):
    chosen = ladder(**val)["chosen"]
    assert chosen["epochs"] == epochs
    assert reason in chosen["reason"]
    assert (warning or "") in (chosen["warning"] or "")
    assert bool(warning) == bool(chosen["warning"])
    assert chosen["test"]["psnr"]["mean"] == 31.0


def test_test_images_have_no_say_in_the_choice():
    psnr = {
        10: {"train": [1.0], "val": [30.0], "test": [99.0]},
        20: {"train": [1.0], "val": [31.0], "test": [1.0]},
    }
    assert compare(scores_of(psnr), stages_of(10, 20))["chosen"]["epochs"] == 20


def test_the_tolerance_is_respected():
    psnr = {b: {s: [30.0 + b / 100] for s in ("train", "val", "test")} for b in (10, 20, 100)}
    scores, stages = scores_of(psnr), stages_of(10, 20, 100)
    assert compare(scores, stages, tolerance=1.0)["chosen"]["epochs"] == 10
    assert compare(scores, stages, tolerance=0.0)["chosen"]["epochs"] == 100


def test_differences_are_paired_and_intervals_need_eight_images():
    rng = np.random.default_rng(0)
    base = rng.normal(30, 5, 9)
    psnr = {
        10: {"train": list(base), "val": [30.0], "test": list(base[:7])},
        20: {"train": list(base + 1 + rng.normal(0, 0.1, 9)), "val": [31.0], "test": [30.0] * 7},
    }
    comparison = compare(scores_of(psnr), stages_of(10, 20))
    (difference,) = comparison["differences"]
    assert (difference["from"], difference["to"]) == (10, 20)
    low, high = difference["splits"]["train"]["interval"]
    assert 0.8 < low < difference["splits"]["train"]["mean"] < high < 1.2
    wide = comparison["budgets"][0]["splits"]["train"]["psnr"]["interval"]
    assert wide[1] - wide[0] > 5 * (high - low)
    assert difference["splits"]["test"]["interval"] is None
    assert comparison["intervals"]["test"] == "7 source images; an interval needs 8"
    assert comparison["intervals"]["train"] is None


def test_a_bootstrap_interval_is_near_that_of_the_normal_distribution():
    values = np.random.default_rng(1).normal(10, 2, 400)
    low, high = bootstrap_interval(values)
    expected = 1.96 * values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx(
        (values.mean() - expected, values.mean() + expected), abs=0.02
    )
    assert bootstrap_interval([1.0] * 7 + [math.nan]) is None


def test_a_split_without_scores_is_refused():
    scores = scores_of({10: {"train": [1.0], "val": [1.0]}})
    with pytest.raises(DataError, match="no scores at 10 epochs on test"):
        compare(scores, stages_of(10))


def test_the_table_marks_the_chosen_budget_and_fits_a_terminal():
    table = format_table(ladder(e10=30.0, e100=31.0))
    lines = table.splitlines()
    assert len(lines) == 4
    assert lines[1].split()[:4] == ["floor", "20.00", "20.00", "20.00"]
    assert lines[3].endswith("<- chosen")
    assert "chosen" not in lines[2]
    assert max(map(len, lines)) <= 100
    assert not any("global" in line for line in lines)


def with_global_floor(**of_split: list[float]) -> dict:
    """A comparison of budgets 10 and 20 with the PSNR of the global floor of each image."""
    psnr = {10: {split: [30.0] * len(values) for split, values in of_split.items()}}
    psnr[20] = psnr[10]
    scores = [
        score._replace(global_floor_psnr=of_split[score.split][int(score.source.split("/")[1])])
        for score in scores_of(psnr)
    ]
    return compare(scores, stages_of(10, 20))


def test_the_global_floor_is_a_mean_by_split_over_the_images_of_its_size():
    comparison = with_global_floor(train=[21.0, 23.0], val=[math.nan], test=[24.0, math.nan, 21.0])
    assert comparison["global_floor"] == {
        "train": {"mean": 22.0, "gain_over_floor": 2.0, "skipped": 0},
        "val": {"mean": None, "gain_over_floor": None, "skipped": 1},
        "test": {"mean": 22.5, "gain_over_floor": 2.5, "skipped": 1},
    }
    assert comparison["no_global_floor"] is None
    assert comparison["floor"] == {"train": FLOOR, "val": FLOOR, "test": FLOOR}
    json.dumps(comparison, allow_nan=False)
    lines = format_table(comparison).splitlines()
    assert lines[2].split() == ["global", "PCA", "22.00", "22.50", "+2.50"]
    assert max(map(len, lines)) <= 100


def test_without_a_global_floor_the_comparison_says_why():
    scores = scores_of({10: {"train": [1.0], "val": [1.0], "test": [1.0]}})
    comparison = compare(scores, stages_of(10), no_global_floor="the images differ in size")
    assert comparison["global_floor"] is None
    assert comparison["no_global_floor"] == "the images differ in size"
    assert compare(scores, stages_of(10))["global_floor"] is None
