import json
import math
from importlib import resources

import jsonschema
import numpy as np
import pytest

from keras_ae.comparison.codecs import summarize as summarize_codecs
from keras_ae.comparison.records import Comparison
from keras_ae.comparison.split import Split
from keras_ae.comparison.terminal import format_table
from keras_ae.errors import DataError
from keras_ae.scores import BASELINE, MODEL, Sample, Sums

RISING = {10: 0.2, 100: 0.9, 500: 1.4, 1000: 1.6, 2000: 1.8}
FEW = {"train": 10, "val": 3, "test": 4}
SCHEMA = json.loads((resources.files("keras_ae.comparison") / "comparison.schema.json").read_text())


def ladder(make_world, **val_gains: float) -> dict:
    """A comparison where only val differs: ladder(make_world, e10=1.0, e100=2.0)."""
    val = {int(name[1:]): gain for name, gain in val_gains.items()}
    other = dict.fromkeys(val, 1.0)
    return make_world({"train": other, "val": val, "test": other}, FEW, spread=0.0).compare()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"images": FEW},
        {"gains": {10: 0.5}},
        {"gains": {10: 0.5, 20: 0.6}, "seeds": 3, "between": 0.1},
        {"tiny": 60, "slices": {"label": lambda i: "ab"[i % 2], "source": lambda i: str(i)}},
        {"baseline": dict.fromkeys(RISING, -3.0), "images": {"train": 9, "val": 9, "test": 9}},
    ],
)
def test_it_follows_the_published_schema_and_is_strict_json(make_world, arguments):
    comparison = make_world(**{"gains": RISING, **arguments}).compare()
    jsonschema.validate(comparison, SCHEMA)
    json.dumps(comparison, allow_nan=False)
    assert json.loads(Comparison.model_validate(comparison).to_json()) == comparison


def test_statistics_are_over_source_images_and_count_undefined_ones(make_world, note):
    world = make_world(RISING, tiny=5)
    comparison = world.compare()
    values = world.layout.select(world.scores["test"][1].values, MODEL, "psnr")[:, 0, -1]
    test = comparison["budgets"][-1]["splits"]["test"]
    assert test["images"] == 60
    assert test["psnr"]["mean"] == pytest.approx(values.astype(float).mean(), rel=1e-12)
    assert test["psnr"]["median"] == pytest.approx(np.median(values))
    assert test["psnr"]["worst_decile"] == pytest.approx(np.sort(values)[:6].mean())
    assert test["mse"]["worst_decile"] > test["mse"]["mean"]
    assert test["ssim"]["skipped"] == 5
    assert test["psnr"]["skipped"] == 0
    assert "5 train images, 5 val images, 5 test images" in note(comparison, "skipped")[0]
    difference = comparison["differences"][0]["splits"]["test"]
    assert difference["ssim"]["images"] == 55
    assert difference["psnr"]["images"] == 60


def test_the_effect_is_given_in_db_and_in_ssim(make_world):
    gain = make_world(RISING).compare()["differences"][0]["splits"]["test"]
    assert gain["psnr"]["mean"] == pytest.approx(0.7, abs=0.05)
    assert gain["ssim"]["mean"] == pytest.approx(0.007, abs=0.0005)
    assert gain["ssim"]["interval"][0] < 0.007 < gain["ssim"]["interval"][1]


def test_intervals_of_differences_are_paired(make_world):
    comparison = make_world(RISING).compare()
    own = comparison["budgets"][0]["splits"]["test"]["psnr"]["interval"]
    difference = comparison["differences"][0]["splits"]["test"]["psnr"]["interval"]
    assert own[1] - own[0] > 10 * (difference[1] - difference[0])


def test_seconds_add_up_along_the_ladder(make_world):
    entries = make_world(RISING, FEW).compare()["budgets"]
    assert [e["stage_seconds"] for e in entries] == [1.0, 9.0, 40.0, 50.0, 100.0]
    assert [e["total_seconds"] for e in entries] == [1.0, 10.0, 50.0, 100.0, 200.0]


@pytest.mark.parametrize(
    ("val", "epochs", "reason"),
    [
        ({"e10": 1.0}, 10, "10 epochs reached the highest val PSNR"),
        ({"e1": 1.0, "e5": 1.01}, 1, "1 epoch reached 30.50 dB of val PSNR, within 0.1 dB of"),
        ({"e10": 1.0, "e100": 1.05}, 10, "within 0.1 dB of the best"),
        ({"e10": 1.0, "e100": 2.0}, 100, "no smaller budget is within 0.1 dB of it"),
        ({"e10": 1.0, "e100": 2.0, "e500": 1.0}, 100, "highest"),
        ({"e10": 1.0, "e100": 1.2, "e500": 1.25}, 100, "within 0.1 dB"),
    ],
)
def test_the_smallest_budget_near_the_best_on_val_is_chosen(make_world, val, epochs, reason):
    chosen = ladder(make_world, **val)["chosen"]
    assert chosen["epochs"] == epochs
    assert reason in chosen["reason"]


def test_the_choice_ignores_test_images(make_world):
    gains = {"train": {10: 1, 20: 1}, "val": {10: 1, 20: 2}, "test": {10: 9, 20: 1}}
    assert make_world(gains, FEW).compare()["chosen"]["epochs"] == 20


def test_the_tolerance_is_respected(make_world):
    world = make_world({10: 1.0, 20: 1.5, 100: 2.0}, FEW, spread=0.0)
    assert world.compare(tolerance=1.1)["chosen"]["epochs"] == 10
    assert world.compare(tolerance=0.0)["chosen"]["epochs"] == 100


def test_below_eight_images_there_is_no_interval_and_a_note(make_world, note):
    comparison = make_world(RISING, {"train": 9, "val": 7, "test": 8}).compare()
    summary = comparison["budgets"][0]["splits"]
    assert summary["val"]["psnr"]["interval"] is None
    assert summary["test"]["psnr"]["interval"] is not None
    gain = comparison["differences"][0]["splits"]["val"]["psnr"]
    assert gain["interval"] is None
    assert gain["wilcoxon_p"] is None
    assert comparison["intervals"]["val"] == "7 source images; an interval needs 8"
    assert comparison["intervals"]["test"] is None
    (text,) = note(comparison, "few_images")
    assert text.startswith(
        "Few images: 7 val images. Intervals and significance tests need at least 8"
    )


def test_copies_are_counted_in_the_answer_and_noted(make_world, note):
    world = make_world(RISING, {"train": 24, "val": 3, "test": 3})
    files = {"train": 288, "val": 3, "test": 36}
    comparison = world.compare(files=files, in_train={"val": 0, "test": 3})
    assert "on 3 test images (36 files, 3 different), " in comparison["answer"]["sentence"]
    (few,) = note(comparison, "few_images")
    assert few.startswith("Few images: 3 val images and 3 test images (36 files, 3 different). ")
    assert note(comparison, "copies") == [
        "Copies: train (288 files, 24 different), test (36 files, 3 different). A picture counts "
        "once, as its largest file; training uses all files."
    ]
    assert note(comparison, "in_train") == [
        "3 of 3 test pictures are in train too, so that the results may be too good for new images."
    ]
    assert comparison["images"]["files"] == files
    assert comparison["images"]["in_train"] == {"val": 0, "test": 3}
    assert comparison["images"]["of"]["test"] == 3


def test_without_copies_the_comparison_does_not_mention_them(make_world):
    world = make_world(RISING, {"train": 24, "val": 9, "test": 9})
    files = {"train": 24, "val": 9, "test": 9}
    counted = world.compare(files=files, in_train={"val": 0, "test": 0})
    assert counted == world.compare()
    assert not {"files", "in_train"} & {*counted["images"]}


def test_disagreement_with_wilcoxon_is_noted(make_world, note):
    world = make_world({10: 1.0, 100: 1.5}, {"train": 9, "val": 9, "test": 28}, spread=0.0)
    psnr = world.layout.select(world.scores["test"][1].values, MODEL, "psnr")
    psnr[:, 0, 1] = psnr[:, 0, 0] + np.r_[np.linspace(0.1, 0.3, 26), -3.0, -3.1]
    world.recompute_sums()
    (text,) = note(world.compare(), "wilcoxon")
    assert text.startswith("100 and 10 epochs on test: the interval of the mean difference, -")
    assert ", disagree." in text


def test_cost_is_per_doubling_and_per_second(make_world):
    comparison = make_world(RISING, spread=0.0).compare()
    step = comparison["cost"]["steps"][-1]
    assert (step["from"], step["to"], step["seconds"]) == (1000, 2000, 100.0)
    assert step["doublings"] == 1.0
    assert step["per_doubling"]["mean"] == pytest.approx(0.2, abs=1e-3)
    assert step["per_second"]["mean"] == pytest.approx(0.002, abs=1e-5)
    first = comparison["cost"]["steps"][0]
    assert first["per_doubling"]["mean"] == pytest.approx(0.7 / math.log2(10), abs=1e-3)
    within = {row["tolerance"]: row["epochs"] for row in comparison["cost"]["within"]}
    assert within == {0.05: 2000, 0.1: 2000, 0.25: 1000, 0.5: 500, 1.0: 100}


def test_a_curve_that_keeps_its_shape_is_extrapolated(make_world, note):
    power = {b: 3.0 - 4.0 * b**-0.4 for b in (100, 200, 400, 800, 1600)}
    comparison = make_world(power, {"train": 50, "val": 500, "test": 50}).compare()
    ahead = comparison["extrapolation"]
    truth = 4.0 * (1600**-0.4 - 3200**-0.4)
    assert (ahead["from"], ahead["to"]) == (1600, 3200)
    assert ahead["gain"] == pytest.approx(truth, abs=0.02)
    assert ahead["interval"][0] < truth < ahead["interval"][1]
    assert ahead["check"]["foretold"] == pytest.approx(ahead["check"]["actual"], abs=0.05)
    assert ahead["text"].startswith("Extrapolated, not measured: 3,200 epochs")
    short = make_world({10: 1.0, 20: 2.0}, FEW).compare()["extrapolation"]
    assert short["gain"] is None
    assert "needs at least three budgets" in short["text"]


def test_the_table_of_a_sample_has_the_means_of_all_images(make_world, note):
    world = make_world(RISING, {"train": 400, "val": 60, "test": 60})
    sums, rows = world.scores["train"]
    sample = Sample(100)
    sample.add(rows)
    world.scores["train"] = (sums, sample.table())
    comparison = world.compare()
    train = comparison["budgets"][0]["splits"]["train"]
    psnr = world.layout.select(rows.values, MODEL, "psnr")[:, 0, 0].astype(float)
    assert train["images"] == 400
    assert train["psnr"]["mean"] == pytest.approx(psnr.mean(), rel=1e-12)
    low, high = train["psnr"]["interval"]
    assert low < psnr.mean() < high
    assert comparison["images"]["kept"] == {"train": 100, "val": 60, "test": 60}
    assert "100 of 400 train" in note(comparison, "sampled")[0]


def test_seeds_are_averaged_and_their_variance_is_separated(make_world, note):
    comparison = make_world(RISING, seeds=3, between=0.3, seed=4).compare()
    parts = comparison["seeds"]["splits"]["test"]
    assert parts["image_sd"] == pytest.approx(3.0, rel=0.3)
    assert 0.05 < parts["seed_sd"] < 0.9
    wide, narrow = parts["interval"], parts["images_interval"]
    assert wide[1] - wide[0] > narrow[1] - narrow[0]
    assert "Over 3 seeds" in note(comparison, "seeds")[0]
    entry = next(e for e in comparison["budgets"] if e["epochs"] == comparison["chosen"]["epochs"])
    best = max(entry["seeds"], key=lambda s: s["val"])
    assert comparison["chosen"]["seed"] == best["seed"]
    mean = np.mean([s["test"] for s in entry["seeds"]])
    assert entry["splits"]["test"]["psnr"]["mean"] == pytest.approx(mean)


def test_the_baseline_is_compared(make_world):
    comparison = make_world(RISING, baseline=dict.fromkeys(RISING, -3.0)).compare()
    baseline = comparison["baseline"]
    assert baseline["preset"] == "baseline"
    assert baseline["difference"]["psnr"]["mean"] == pytest.approx(4.8, abs=0.05)
    gain = baseline["budgets"][0]["splits"]["test"]["gain_over_floor"]
    assert gain["mean"] == pytest.approx(-3.0, abs=0.05)
    assert "baseline:" in format_table(Comparison.model_validate(comparison))


def test_losses_are_thinned_and_keep_their_epochs(make_world):
    (losses,) = make_world(RISING, FEW).compare()["losses"]
    assert losses["epochs"][0] == 1
    assert losses["epochs"][-1] == 2000
    assert len(losses["epochs"]) == len(losses["loss"]) <= 500
    assert losses["loss"][-1] == pytest.approx(1 / 2000)


def test_slices_of_few_images_are_listed_and_not_tested(make_world):
    world = make_world(
        RISING, {"train": 9, "val": 9, "test": 20}, slices={"label": lambda i: str(i)}
    )
    slices = world.compare()["slices"]
    assert len([row for row in slices["rows"] if row["by"] == "label"]) == 20
    assert slices["compared"] == 0
    assert slices["text"] == "No slice was tested: none of 21 has 8 images or more."


def test_folders_that_match_labels_are_sliced_once(make_world):
    by = {"label": lambda i: "ab"[i % 2], "source": lambda i: "xy"[i % 2], "size": lambda i: "1"}
    rows = make_world(RISING, slices=by).compare()["slices"]["rows"]
    assert {row["by"] for row in rows} == {"label", "hardest tenth"}


def test_a_split_without_scores_is_refused(make_world):
    world = make_world(RISING)
    world.scores["test"] = (Sums(), world.scores["test"][1].take(slice(0)))
    with pytest.raises(DataError, match="split test has no scores"):
        world.compare()


def test_the_table_marks_the_chosen_budget_and_fits_a_terminal(make_world):
    comparison = Comparison.model_validate(ladder(make_world, e10=1.0, e100=2.0))
    lines = format_table(comparison).splitlines()
    assert len(lines) == 4
    assert lines[1].split()[0] == "floor"
    assert lines[1].split()[-1] == "+0.00"
    assert lines[3].endswith("<- chosen")
    assert "chosen" not in lines[2]
    assert max(map(len, lines)) <= 100


def test_the_global_floor_is_over_the_images_of_its_size(make_world):
    world = make_world(RISING, FEW)
    rows = world.scores["test"][1]
    column = world.layout.floor_column("global_pca")
    for split in FEW:
        world.scores[split][1].values[:, column] = world.scores[split][1].values[:, 0] + 2.0
    rows.values[:2, column] = np.nan
    world.recompute_sums()
    comparison = world.compare()
    floor = comparison["floors"]["global_pca"]["splits"]["test"]
    assert floor["gain_over_floor"] == pytest.approx(2.0)
    assert (floor["images"], floor["skipped"]) == (2, 2)
    line = format_table(Comparison.model_validate(comparison)).splitlines()[2]
    assert line.split()[:2] == ["global", "PCA"]


def test_a_lossless_floor_is_noted(make_world, note):
    assert not note(make_world(RISING, FEW).compare(), "lossless")
    world = make_world(dict.fromkeys(RISING, 0.0), FEW, spread=0.0)
    for _, rows in world.scores.values():
        rows.values[rows.values > 10] = 100.0
    world.recompute_sums()
    comparison = world.compare()
    (text,) = note(comparison, "lossless")
    assert text.startswith("PCA with the same latent size is lossless on test")
    assert comparison["chosen"]["test"]["gain_over_floor"]["mean"] == 0.0
    format_table(Comparison.model_validate(comparison))


def test_without_a_global_floor_the_comparison_says_why(make_world):
    comparison = make_world(RISING, FEW).compare(no_global_floor_reason="the images differ in size")
    assert comparison["floors"]["global_pca"] == {
        "splits": None,
        "reason": "the images differ in size",
    }


def test_codecs_are_paired_with_the_model_and_count_skipped_images():
    rng = np.random.default_rng(0)
    psnr = rng.normal(30, 2, 20)
    quality = {
        "model": {"psnr": psnr, "ssim": np.full(20, 0.9)},
        "jpeg": {"psnr": psnr - 1.5, "ssim": np.full(20, 0.8)},
        "webp": {"psnr": np.where(np.arange(20) < 15, np.nan, psnr), "ssim": np.full(20, 0.8)},
    }
    summary = summarize_codecs(quality, np.full(20, 128), np.full(20, 1024))
    codecs = json.loads(summary.to_json())
    jsonschema.validate(codecs, {**SCHEMA["properties"]["codecs"], "$defs": SCHEMA["$defs"]})
    rows = {row["key"]: row for row in codecs["rows"]}
    assert codecs["bits_per_pixel"] == 1.0
    assert rows["jpeg"]["against_model"]["mean"] == pytest.approx(-1.5)
    assert rows["jpeg"]["against_model"]["interval"] is not None
    assert (rows["webp"]["images"], rows["webp"]["skipped"]) == (5, 15)
    assert rows["webp"]["psnr"]["interval"] is None


def test_differences_over_seeds_are_of_their_means(make_world):
    world = make_world(RISING, seeds=2, baseline=dict.fromkeys(RISING, 0.0))
    split = Split(*world.scores["test"], world.layout)
    values = world.layout.select(world.scores["test"][1].values, MODEL, "psnr").astype(float)
    values_per_image = split.per_image({(MODEL, "psnr", 100): 1.0, (BASELINE, "psnr", 10): 0.0})
    assert values_per_image == pytest.approx(values[:, :, 1].mean(1))
