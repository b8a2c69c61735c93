import functools
import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions

from keras_ae import contract as c
from keras_ae import scores
from keras_ae.errors import DataError
from keras_ae.models import linear
from keras_ae.scores import Layout
from keras_ae.scoring import codecs, models, reading
from keras_ae.scoring.floors import Floors
from pipeline.components.budget_comparison.scoring import graph_of, score
from pipeline.runners.beam import engines
from pipeline.runtime.artifacts import SUMMARY
from tests.pipeline.components.report.test_executor import STAGE

LAYOUT = Layout((1, 2), {"model": 1, "baseline": 1})
CODES = ("model", "model_8bit", "jpeg", "webp", "patch_pca")


@pytest.fixture(scope="module")
def pca(photographs) -> linear.PatchPCA:
    return linear.fit(linear.patch_moments(photographs, 8), 8)


@pytest.fixture(scope="module")
def folders(tiny_model) -> dict[str, list[list[str]]]:
    """Two budgets of "model", which differ, and "baseline" with one of them twice."""
    first, second = (str(tiny_model(name) / "Format-Serving") for name in ("residual", "plain"))
    return {"model": [[first, second]], "baseline": [[second, second]]}


def example_of(data: bytes, sides: tuple[int, int], name: str, **slices: str) -> tf.train.Example:
    example = tf.train.Example()
    feature = example.features.feature
    feature[c.IMAGE_ENCODED].bytes_list.value.append(data)
    feature[c.IMAGE_SOURCE].bytes_list.value.append(name.encode())
    for key, side in zip((c.IMAGE_HEIGHT, c.IMAGE_WIDTH), sides):
        feature[key].int64_list.value.append(side)
    for by, value in slices.items():
        feature[f"slice/{by}"].bytes_list.value.append(value.encode())
    return example


def write(folder: Path, split: str, files: list[list[tf.train.Example]]) -> str:
    """Writes examples to files; returns the pattern of their paths."""
    for number, examples in enumerate(files):
        path = str(folder / f"{split}-{number}.gz")
        with tf.io.TFRecordWriter(path, options="GZIP") as writer:
            for example in examples:
                writer.write(example.SerializeToString())
    return str(folder / f"{split}-*.gz")


@pytest.fixture(scope="module")
def patterns(tmp_path_factory, photographs, encode) -> dict[str, str]:
    """Images of different and of equal sizes, one of them smaller than SSIM's window."""
    examples = []
    sizes = [(64, 48), (64, 48), (200, 190), (9, 30), (64, 48), (70, 33), (180, 200)]
    for i, (height, width) in enumerate(sizes):
        image = photographs[i % 3][20 * i : 20 * i + height, :width]
        data = encode(image, "PNG") if i % 2 else encode(image, "JPEG", quality=95)
        slices = {"label": "cat" if i < 4 else "dog", "size": "1 smallest"} if i else {}
        examples.append(example_of(data, (height, width), f"images/{i}.png", **slices))
    folder = tmp_path_factory.mktemp("examples")
    return {
        "train": write(folder, "train", [examples[:4], examples[4:]]),
        "val": write(folder, "val", [examples[:2]]),
        "test": write(folder, "test", [[], examples[2:4]]),
    }


@pytest.fixture(scope="module")
def all_scored(patterns, folders, pca, tmp_path_factory):
    """The scores of all images, and the lines of `images.jsonl`."""
    return scored(patterns, folders, pca, tmp_path_factory.mktemp("scores"))


def test_a_picture_counts_once_as_its_largest_file(patterns, folders, pca, tmp_path, all_scored):
    alone, _ = all_scored
    examples = [
        tf.train.Example.FromString(record)
        for file in sorted(Path(patterns["train"]).parent.glob("train-*.gz"))
        for record in reading._records(str(file))
    ]
    twins = []
    for example in examples:
        twin = tf.train.Example.FromString(example.SerializeToString())
        for each in (example, twin):
            name = example.features.feature[c.IMAGE_SOURCE].bytes_list.value[0]
            each.features.feature[c.IMAGE_PICTURE].bytes_list.value.append(name)
        twin.features.feature[c.IMAGE_SOURCE].bytes_list.value[0] += b"~"
        twins.append(twin)
    pattern = write(tmp_path, "train", [twins, examples, twins[:2]])
    found, lines = scored({**patterns, "train": pattern}, folders, pca, tmp_path)
    assert found["train"].files == 16
    assert found["train"].sums.to_list()[0][2] == alone["train"].sums.images() == 7
    # The images are in other batches, which changes the last bits of their scores.
    means = [scores_of["train"].sums.mean() for scores_of in (found, alone)]
    np.testing.assert_allclose(*means, rtol=1e-6)
    assert found["train"].table.sources.tolist() == alone["train"].table.sources.tolist()
    assert found["test"].files == alone["test"].sums.images()
    assert sum("picture" in line for line in lines) == 16


def beam_pipeline() -> beam.Pipeline:
    return beam.Pipeline(options=PipelineOptions(engines.beam_arguments(engines.DIRECT, 1, [])))


def scored(patterns, folders, pca, tmp_path, whole=None):
    floors = Floors(pca, 8, whole)
    file = tmp_path / "images.jsonl"
    parts = str(tmp_path / "parts")
    found = score(beam_pipeline, patterns, folders, LAYOUT, floors, 3, file, parts)
    assert not Path(parts).exists()
    return found, [json.loads(line) for line in file.read_text().splitlines()]


@functools.cache
def signature_of(folder: str):
    return tf.saved_model.load(folder).signatures[c.SCORE]


def signature_scores(folder: str, pattern: str) -> dict[str, dict[str, float]]:
    """The outputs of the signature `score` for each image alone, by source."""
    signature, outputs = signature_of(folder), {}
    for file in sorted(tf.io.gfile.glob(pattern)):
        for record in tf.data.TFRecordDataset(file, "GZIP"):
            feature = tf.train.Example.FromString(record.numpy()).features.feature
            source = feature[c.IMAGE_SOURCE].bytes_list.value[0].decode()
            output = signature(examples=record[None])
            outputs[source] = {k: v.numpy()[0] for k, v in output.items() if k != c.STATUS}
    return outputs


def test_scores_are_those_of_the_signature(all_scored, patterns, folders):
    parts, rows = all_scored
    assert [row["split"] for row in rows] == ["train"] * 7 + ["val"] * 2 + ["test"] * 2
    for ladder, budget in (("model", 0), ("model", 1), ("baseline", 1)):
        expected = signature_scores(folders[ladder][0][budget], patterns["train"])
        table = parts["train"].table
        assert table.sources.tolist() == sorted(expected)
        for metric in scores.METRICS:
            ours = LAYOUT.select(table.values, ladder, metric)[:, 0, budget]
            theirs = [expected[source][metric] for source in table.sources]
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, err_msg=metric)
        ours = table.values[:, LAYOUT.floor_column("patch_pca")]
        theirs = [expected[source][c.FLOOR_PSNR] for source in table.sources]
        np.testing.assert_allclose(ours, theirs, rtol=2e-5)
    psnr = LAYOUT.select(parts["train"].table.values, "model", "psnr")[:, 0]
    assert (np.abs(psnr[:, 0] - psnr[:, 1]) > 1e-3).all()


def test_sums_count_what_has_no_ssim_and_are_by_slice(all_scored):
    parts, _ = all_scored
    sums, table, _ = parts["train"]
    assert sums.images() == len(table) == 7
    assert LAYOUT.select(sums.count(), "model", "ssim").tolist() == [[6, 6]]
    assert LAYOUT.select(sums.count(), "baseline", "psnr").tolist() == [[7, 7]]
    means = np.nanmean(table.values[:, 2:].astype(np.float64), axis=0)
    np.testing.assert_allclose(sums.mean()[2:], means, rtol=1e-9)
    assert np.isnan(sums.mean()[LAYOUT.floor_column("global_pca")])
    slices = {key: sums.images(key) for key in sums.keys}
    assert (slices["label", "cat"], slices["label", "dog"]) == (3, 3)
    # The first example has no slices, as in examples of earlier versions.
    assert slices["label", "none"] == 1
    assert slices["detail", "none"] == 7


def test_each_image_has_a_line(all_scored):
    parts, rows = all_scored
    table = parts["train"].table
    by_source = {row["source"]: row for row in rows if row["split"] == "train"}
    for i, source in enumerate(table.sources):
        row = by_source[source]
        assert row["digest"] == table.digests[i]
        assert row["slices"]["label"] == table.slices["label"][i]
        assert np.float32(row["patch_pca"]) == table.values[i, LAYOUT.floor_column("patch_pca")]
        assert row["global_pca"] is None
        for ladder in LAYOUT.seeds:
            for metric in scores.METRICS:
                values = LAYOUT.select(table.values[i], ladder, metric)
                written = np.array(row["scores"][ladder][metric], np.float32)
                assert np.array_equal(written, values, equal_nan=True)
    small = by_source["images/3.png"]
    assert (small["height"], small["width"]) == (9, 30)
    assert small["scores"]["model"]["ssim"] == [[None, None]]


def test_the_global_floor_is_of_images_of_its_size(patterns, folders, pca, tmp_path):
    # Fitting one to images of this size would take minutes.
    components = np.linalg.qr(np.random.default_rng(0).normal(size=(64 * 48 * 3, 5)))[0]
    pca_of_images = linear.PatchPCA(np.full(64 * 48 * 3, 0.5), components, np.ones(5))
    whole = linear.GlobalPCA((64, 48, 3), pca_of_images)
    parts, _ = scored(patterns, folders, pca, tmp_path, whole)
    found = parts["train"].table.values[:, LAYOUT.floor_column("global_pca")]
    assert np.isfinite(found).tolist() == [True, True, False, False, True, False, False]


def test_scores_do_not_depend_on_the_batches(
    all_scored, patterns, folders, pca, tmp_path, monkeypatch
):
    expected, _ = all_scored
    monkeypatch.setattr(reading, "MAX_BATCH_PIXELS", 1)
    monkeypatch.setattr(models, "MAX_RECONSTRUCTION_PIXELS", 1)
    found, _ = scored(patterns, folders, pca, tmp_path)
    assert found["train"].table.sources.tolist() == expected["train"].table.sources.tolist()
    np.testing.assert_allclose(
        found["train"].table.values, expected["train"].table.values, rtol=2e-5
    )


def test_an_image_that_cannot_be_decoded_is_named(folders, pca, tmp_path, encode):
    good = encode(np.zeros((20, 30, 3), np.uint8), "PNG")
    examples = [
        example_of(data, (20, 30), name)
        for data, name in ((good, "good.png"), (good[:-30], "images/bad.png"))
    ]
    with pytest.raises(Exception, match=r"images/bad\.png: cannot be decoded") as error:
        scored({"train": write(tmp_path, "train", [examples])}, folders, pca, tmp_path)
    causes = [error.value]
    while causes[-1].__cause__ or causes[-1].__context__:
        causes.append(causes[-1].__cause__ or causes[-1].__context__)
    assert any(isinstance(cause, DataError) for cause in causes)


def test_a_truncated_file_is_named(patterns, tmp_path):
    whole = Path(patterns["train"].replace("*", "0"))
    truncated = tmp_path / whole.name
    truncated.write_bytes(whole.read_bytes()[:-5000])
    with pytest.raises(DataError, match=r"cannot read .*train-0\.gz: "):
        list(reading.read_batches(str(truncated)))


def test_batches_are_of_one_size_and_bounded(tmp_path, encode, monkeypatch):
    monkeypatch.setattr(reading, "MAX_BATCH_PIXELS", 1000)
    sizes = [(20, 20), (20, 20), (10, 10), (20, 20), (60, 60), (20, 20)]
    examples = [
        example_of(encode(np.zeros((*size, 3), np.uint8), "PNG"), size, str(i))
        for i, size in enumerate(sizes)
    ]
    pattern = write(tmp_path, "train", [examples])
    batches = list(reading.read_batches(pattern.replace("*", "0")))
    assert [[e.source for e in batch] for batch in batches] == [
        ["0", "1"],
        ["2"],
        ["3"],
        ["4"],
        ["5"],
    ]


def test_the_budgets_of_a_ladder_share_a_graph_and_keep_their_weights(
    tiny_model, photographs, tmp_path
):
    images = photographs[0][None, :40, :56]
    folders, alone = [], []
    for name, kind, code in (("a", "residual", "1"), ("b", "plain", "1"), ("c", "residual", "2")):
        shutil.copytree(tiny_model(kind), tmp_path / name)
        folders.append(str(tmp_path / name / "Format-Serving"))
        alone.append(reconstructed(folders[-1], images))
        summary = tmp_path / name / SUMMARY
        summary.parent.mkdir()
        summary.write_text(STAGE.model_copy(update={"code_fingerprint": code}).to_json())
    models.unload_all()
    one, other, elsewhere = models.load(folders, 3, graph_of)
    assert one._graph is other._graph is not elsewhere._graph
    with ThreadPoolExecutor(2) as pool:
        both = pool.map(lambda model: model.reconstruct(images).numpy(), [one, other] * 20)
        assert all(np.array_equal(a, b) for a, b in zip(both, alone[:2] * 20, strict=True))
    assert np.array_equal(elsewhere.reconstruct(images), alone[2])
    assert not np.array_equal(*alone[:2])
    models.unload_all()


def reconstructed(folder: str, images: np.ndarray) -> np.ndarray:
    outputs = tf.saved_model.load(folder).signatures[c.RECONSTRUCT](images=tf.constant(images))
    return outputs[c.RECONSTRUCTIONS].numpy()


def test_codecs_are_compared_on_test_images(patterns, folders, pca):
    found = codecs.score_codecs(patterns, folders["model"][0][0], Floors(pca, 8), 3)
    assert found["images"] == 2
    assert sorted(found["sources"]) == ["images/2.png", "images/3.png"]
    large = found["sources"].index("images/2.png")
    assert found["bytes"][large] == 25 * 24 * 8
    expected = signature_scores(folders["model"][0][0], patterns["test"])["images/2.png"]
    assert found["model"]["psnr"][large] == pytest.approx(expected[c.PSNR], rel=2e-5)
    assert found["model"]["ssim"][large] == pytest.approx(expected[c.SSIM], rel=2e-5)
    assert found["patch_pca"]["psnr"][large] == pytest.approx(expected[c.FLOOR_PSNR], rel=2e-5)
    quantized = found["model_8bit"]["psnr"][large]
    assert quantized != found["model"]["psnr"][large]
    assert quantized == pytest.approx(found["model"]["psnr"][large], abs=3)
    # With eight bits for each value they have more bits than they need.
    assert found["webp"]["psnr"][large] > found["model"]["psnr"][large] > 15
    assert found["jpeg"]["psnr"][large] > found["model"]["psnr"][large]
    assert all(np.isnan(found[kind]["ssim"][1 - large]) for kind in CODES)


def test_codecs_take_the_lowest_digests_and_at_least_one(
    tmp_path, photographs, encode, folders, pca, monkeypatch
):
    images = [photographs[0][i : i + 40, :40] for i in range(6)]
    examples = [
        example_of(encode(image, "PNG"), (40, 40), f"{i}.png") for i, image in enumerate(images)
    ]
    patterns = {
        split: write(tmp_path, split, [examples[:3], examples[3:]]) for split in ("val", "test")
    }
    scored_codecs = functools.partial(
        codecs.score_codecs, patterns, folders["model"][0][0], Floors(pca, 8), 3
    )
    digests = {
        e.source: e.digest
        for part in (0, 1)
        for batch in reading.read_batches(patterns["test"].replace("*", str(part)))
        for e in batch
    }
    lowest = sorted(digests, key=lambda source: digests[source])
    monkeypatch.setattr(codecs, "MAX_IMAGES", 3)
    assert sorted(scored_codecs()["sources"]) == sorted(lowest[:3])
    monkeypatch.setattr(codecs, "MAX_PIXELS", 100)
    assert scored_codecs()["sources"] == lowest[:1]
    assert math.isfinite(scored_codecs()["jpeg"]["psnr"][0])
