import json

import numpy as np
import pytest

from keras_ae.comparison import across
from keras_ae.comparison.terminal import format_runs
from keras_ae.errors import DataError
from keras_ae.scores import METRICS, MODEL

RISING = {10: 0.2, 100: 0.9, 500: 1.4}
COUNTS = {"train": 30, "val": 20, "test": 40}


@pytest.fixture
def save(tmp_path):
    """Leaves a world's comparison on disk as a run does: save(world, name) -> its folder."""

    def saved(made, name, **facts):
        place = tmp_path / name
        place.mkdir(parents=True)
        comparison = {**made.compare(), "run": {"preset": "medium", "parameters": 9, **facts}}
        (place / "comparison.json").write_text(json.dumps(comparison))
        with (place / "images.jsonl").open("w") as file:
            for split, (_, rows) in made.scores.items():
                for i, values in enumerate(rows.values):
                    scores = {
                        m: made.layout.of(values, MODEL, m).astype(float).tolist() for m in METRICS
                    }
                    row = {"split": split, "digest": rows.digests[i], "scores": {MODEL: scores}}
                    file.write(json.dumps(row).replace("NaN", "null") + "\n")
        return place

    return saved


def test_runs_on_the_same_images_are_paired(world, save):
    better = {budget: gain + 0.3 for budget, gain in RISING.items()}
    other = world(better, COUNTS, tiny=3, seed=1)
    places = [save(world(RISING, COUNTS), "one"), save(other, "two")]
    compared = across.compare_runs(across.load(places))
    (pair,) = compared.pairs
    assert (pair.run, pair.against) == ("two", "one")
    assert pair.psnr.images == 40
    low, high = pair.psnr.interval
    assert low < 0.3 < high
    assert high - low < 0.1
    assert pair.ssim.images == 37
    assert "the 40 test images, which are the same ones" in pair.text
    one, two = compared.runs
    own = one.test.psnr.interval
    assert own[1] - own[0] > 1
    assert two.test.psnr.mean - one.test.psnr.mean == pytest.approx(pair.psnr.mean, abs=1e-6)
    text = format_runs(compared)
    assert f"two against one: {pair.psnr.mean:+.2f} ({low:+.2f} to {high:+.2f}) dB" in text


def test_runs_may_differ_in_their_budgets(world, save):
    places = [save(world(RISING, COUNTS), "a"), save(world({7: 0.5}, COUNTS), "b")]
    compared = across.compare_runs(across.load(places))
    assert [row.epochs for row in compared.runs] == [500, 7]
    assert compared.pairs[0].psnr.mean == pytest.approx(-0.9, abs=0.05)


def test_images_that_one_run_was_trained_on_are_no_test_of_it(world, save):
    one, two = world(RISING, COUNTS), world(RISING, COUNTS)
    for made, count in ((one, 40), (two, 25)):
        rows = made.scores["test"][1]
        made.scores["test"] = (made.scores["test"][0], rows.take(slice(count)))
        if count < 40:
            # What the first run tests on, the second was trained on.
            train = made.scores["train"][1]
            train.digests[:10] = rows.digests[15:25]
        made.resum()
    two.scores["train"][1].digests[:5] = one.scores["test"][1].digests[:5]
    places = [save(one, "one"), save(two, "two")]
    (pair,) = across.compare_runs(across.load(places)).pairs
    assert pair.psnr.images == 25 - 5 - 5
    assert "10 are left out that the other run was trained or chosen on" in pair.text


def test_runs_without_a_common_image_stand_side_by_side_only(world, save):
    other = world(RISING, COUNTS)
    digests = other.scores["test"][1].digests
    digests[:] = [f"x{digest}" for digest in digests]
    places = [save(world(RISING, COUNTS), "one"), save(other, "two")]
    compared = across.compare_runs(across.load(places))
    assert compared.pairs[0].psnr.mean is None
    assert "no test image in common" in format_runs(compared)
    (places[1] / "images.jsonl").unlink()
    compared = across.compare_runs(across.load(places))
    assert "there is no images.jsonl beside two's" in format_runs(compared)


def test_folders_of_one_name_are_told_apart(world, save):
    made = world(RISING, COUNTS)
    places = [save(made, "x/run"), save(made, "y/run")]
    assert [run.name for run in across.load(places)] == ["x/run", "y/run"]
    with pytest.raises(DataError, match="named more than once"):
        across.load([places[0], places[0] / "comparison.json"])


def test_what_is_no_run_is_refused_in_a_line(world, save, tmp_path):
    place = save(world(RISING, COUNTS), "good")
    with pytest.raises(DataError, match="two or more runs are compared; got 1"):
        across.load([place])
    with pytest.raises(DataError, match="a run is the --root of"):
        across.load([place, tmp_path / "none"])
    (tmp_path / "bad").mkdir()
    for text, reason in (("{", "is not JSON"), ("[]", "of version None; expected 1")):
        (tmp_path / "bad" / "comparison.json").write_text(text)
        with pytest.raises(DataError, match=reason):
            across.load([place, tmp_path / "bad"])


def test_scores_of_several_seeds_are_averaged(world, save):
    made = world(RISING, COUNTS, seeds=3)
    (run, _) = across.load([save(made, "a"), save(world(RISING, COUNTS), "b")])
    values = made.layout.of(made.scores["test"][1].values, MODEL, "psnr")[:, :, -1]
    expected = dict(zip(made.scores["test"][1].digests, values.mean(1)))
    assert {d: v[0] for d, v in run.scores.items()} == pytest.approx(expected, rel=1e-6)
    assert np.isfinite(list(run.scores.values())).all()
