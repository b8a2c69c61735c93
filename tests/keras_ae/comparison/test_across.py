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
    """Writes a world's comparison as a run does: save(make_world, name) -> its folder."""

    def saved(world, name, **facts):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        comparison = {**world.compare(), "run": {"preset": "medium", "parameters": 9, **facts}}
        (folder / "comparison.json").write_text(json.dumps(comparison))
        with (folder / "images.jsonl").open("w") as file:
            for split, (_, rows) in world.scores.items():
                for i, values in enumerate(rows.values):
                    scores = {
                        m: world.layout.select(values, MODEL, m).astype(float).tolist()
                        for m in METRICS
                    }
                    row = {"split": split, "digest": rows.digests[i], "scores": {MODEL: scores}}
                    file.write(json.dumps(row).replace("NaN", "null") + "\n")
        return folder

    return saved


@pytest.mark.parametrize("text", ['{"split": "te', '{"digest": "12"}', "[]"])
def test_scores_of_images_that_were_damaged_are_named(make_world, save, text):
    folders = [save(make_world(RISING, COUNTS), name) for name in ("one", "two")]
    (folders[1] / "images.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"two/images\.jsonl is damaged; copy it again"):
        across.load(folders)


def test_runs_on_the_same_images_are_paired(make_world, save):
    better = {budget: gain + 0.3 for budget, gain in RISING.items()}
    other = make_world(better, COUNTS, tiny=3, seed=1)
    folders = [save(make_world(RISING, COUNTS), "one"), save(other, "two")]
    compared = across.compare_runs(across.load(folders))
    (pair,) = compared.pairs
    assert (pair.run, pair.against) == ("two", "one")
    assert pair.psnr.images == 40
    low, high = pair.psnr.interval
    assert low < 0.3 < high
    assert high - low < 0.1
    assert pair.ssim.images == 37
    assert "the 40 test images, which are the same in both runs" in pair.text
    one, two = compared.runs
    own = one.test.psnr.interval
    assert own[1] - own[0] > 1
    assert two.test.psnr.mean - one.test.psnr.mean == pytest.approx(pair.psnr.mean, abs=1e-6)
    text = format_runs(compared)
    assert f"two minus one: {pair.psnr.mean:+.2f} ({low:+.2f} to {high:+.2f}) dB" in text


def test_latents_of_different_sizes_are_listed_side_by_side(make_world, save):
    world, sizes = make_world(RISING, COUNTS), ("8 channels at stride 8", "2 channels at stride 4")
    one, two, three = (
        save(world, name, latent=latent) for name, latent in zip("abc", (*sizes, sizes[0]))
    )
    different = across.compare_runs(across.load([one, two]))
    assert different.pairs[0].psnr.images == 40
    assert f"\nlatents of different sizes:\na  {sizes[0]}\nb  {sizes[1]}\n" in format_runs(
        different
    )
    assert "latents" not in format_runs(across.compare_runs(across.load([one, three])))


def test_runs_may_differ_in_their_budgets(make_world, save):
    folders = [save(make_world(RISING, COUNTS), "a"), save(make_world({7: 0.5}, COUNTS), "b")]
    compared = across.compare_runs(across.load(folders))
    assert [row.epochs for row in compared.runs] == [500, 7]
    assert compared.pairs[0].psnr.mean == pytest.approx(-0.9, abs=0.05)


def test_images_that_one_run_used_are_excluded(make_world, save):
    one, two = make_world(RISING, COUNTS), make_world(RISING, COUNTS)
    for world, count in ((one, 40), (two, 25)):
        rows = world.scores["test"][1]
        world.scores["test"] = (world.scores["test"][0], rows.take(slice(count)))
        if count < 40:
            # The second run was trained on test images of the first.
            train = world.scores["train"][1]
            train.digests[:10] = rows.digests[15:25]
        world.recompute_sums()
    two.scores["train"][1].digests[:5] = one.scores["test"][1].digests[:5]
    folders = [save(one, "one"), save(two, "two")]
    (pair,) = across.compare_runs(across.load(folders)).pairs
    assert pair.psnr.images == 25 - 5 - 5
    assert "10 excluded, because one of the runs used them for training or validation" in pair.text


def test_runs_without_a_common_image_are_not_paired(make_world, save):
    other = make_world(RISING, COUNTS)
    digests = other.scores["test"][1].digests
    digests[:] = [f"x{digest}" for digest in digests]
    folders = [save(make_world(RISING, COUNTS), "one"), save(other, "two")]
    compared = across.compare_runs(across.load(folders))
    assert compared.pairs[0].psnr.mean is None
    assert "no test image in common" in format_runs(compared)
    (folders[1] / "images.jsonl").unlink()
    compared = across.compare_runs(across.load(folders))
    assert "run two has no images.jsonl next to its comparison.json" in format_runs(compared)


def test_folders_with_the_same_name_get_unique_names(make_world, save):
    world = make_world(RISING, COUNTS)
    folders = [save(world, "x/run"), save(world, "y/run")]
    assert [run.name for run in across.load(folders)] == ["x/run", "y/run"]
    with pytest.raises(DataError, match="given more than once"):
        across.load([folders[0], folders[0] / "comparison.json"])


def test_paths_without_a_run_are_refused(make_world, save, tmp_path):
    folder = save(make_world(RISING, COUNTS), "good")
    with pytest.raises(DataError, match="expected two or more runs; got 1"):
        across.load([folder])
    with pytest.raises(DataError, match="expected the --root of a finished run"):
        across.load([folder, tmp_path / "none"])
    (tmp_path / "bad").mkdir()
    for text, reason in (("{", "is not JSON"), ("[]", "has version None; expected 1")):
        (tmp_path / "bad" / "comparison.json").write_text(text)
        with pytest.raises(DataError, match=reason):
            across.load([folder, tmp_path / "bad"])


def test_scores_of_several_seeds_are_averaged(make_world, save):
    world = make_world(RISING, COUNTS, seeds=3)
    (run, _) = across.load([save(world, "a"), save(make_world(RISING, COUNTS), "b")])
    values = world.layout.select(world.scores["test"][1].values, MODEL, "psnr")[:, :, -1]
    expected = dict(zip(world.scores["test"][1].digests, values.mean(1)))
    assert {d: v[0] for d, v in run.scores.items()} == pytest.approx(expected, rel=1e-6)
    assert np.isfinite(list(run.scores.values())).all()
