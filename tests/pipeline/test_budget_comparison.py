import json
import math

import numpy as np
import pytest
import tensorflow as tf
from sklearn.decomposition import PCA
from tfx.types import standard_artifacts

from keras_ae import contract as c
from keras_ae.comparison import Score, compare
from pipeline.components.budget_comparison import executor
from pipeline.components.budget_comparison.floors import score_global_floor

STAGE = {"stride": 8, "latent_channels": 2, "channels": 1, "stop": 10, "seconds": 1.0}


def smooth(count: int, height: int = 8, width: int = 12, seed: int = 0) -> np.ndarray:
    """uint8 [count, height, width, 1]."""
    steps = np.random.default_rng(seed).normal(0, 12, (count, height, width, 1))
    return np.clip(128 + steps.cumsum(1).cumsum(2), 0, 255).astype(np.uint8)


@pytest.fixture
def write(tmp_path, encode):
    """Writes the examples of each split, in two files: write(train=images, ...) -> artifact."""

    def written(**splits):
        artifact = standard_artifacts.Examples()
        artifact.uri = str(tmp_path / "examples")
        artifact.split_names = json.dumps(list(splits))
        for split, images in splits.items():
            place = tmp_path / "examples" / f"Split-{split}"
            place.mkdir(parents=True)
            for part in (0, 1):
                path = str(place / f"part-{part}.gz")
                with tf.io.TFRecordWriter(path, options="GZIP") as writer:
                    for i in range(part, len(images), 2):
                        example = example_of(encode(images[i], "PNG"), images[i], f"{i}.png")
                        writer.write(example.SerializeToString())
        return artifact

    return written


def example_of(data: bytes, image: np.ndarray, source: str) -> tf.train.Example:
    def of_bytes(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def of_number(value: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    feature = {
        c.IMAGE_ENCODED: of_bytes(data),
        c.IMAGE_SOURCE: of_bytes(source.encode()),
        c.IMAGE_HEIGHT: of_number(image.shape[0]),
        c.IMAGE_WIDTH: of_number(image.shape[1]),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature))


def scores_of(**splits) -> list[Score]:
    return [
        Score(f"{i}.png", split, 10, 1e-3, 30.0, 0.9, math.nan, 20.0)
        for split, images in splits.items()
        for i in range(len(images))
    ]


def test_the_global_floor_is_that_of_scikit_learn_and_skips_other_sizes(write):
    splits = {
        "train": smooth(700),
        "val": [*smooth(3, seed=1), *smooth(2, 12, 8, seed=2)],
        "test": smooth(2, seed=3),
    }
    examples = write(**splits)
    scores, reason = executor._with_global_floor(scores_of(**splits), examples, STAGE)
    assert reason is None
    pca = PCA(4, svd_solver="full").fit(splits["train"].reshape(700, -1) / 255.0)
    for score in scores:
        image = splits[score.split][int(score.source.removesuffix(".png"))]
        if image.shape != (8, 12, 1):
            assert math.isnan(score.global_floor_psnr)
            continue
        vector = image.reshape(1, -1) / 255.0
        back = np.round(np.clip(pca.inverse_transform(pca.transform(vector)), 0, 1) * 255) / 255
        expected = -10 * math.log10(np.mean((back - vector) ** 2))
        assert score.global_floor_psnr == pytest.approx(expected, abs=0.02)
    comparison = compare(scores, [STAGE], no_global_floor=reason)
    assert [comparison["global_floor"][split]["skipped"] for split in c.SPLITS] == [0, 2, 0]


def test_an_exact_reconstruction_counts_as_100_db(write):
    same = np.full((100, 8, 12, 1), 9, np.uint8)
    examples = write(train=same, val=same[:1], test=same[:1])
    patterns = {split: executor._pattern(examples, split) for split in c.SPLITS}
    psnr, _ = score_global_floor(patterns, 8, 2, 1)
    assert len(psnr) == 102
    assert set(psnr.values()) == {100.0}


def test_where_there_is_none_the_reason_is_given_and_scores_are_null(write, tmp_path):
    splits = {"train": [*smooth(2), *smooth(1, 9)], "val": smooth(1), "test": smooth(1)}
    examples = write(**splits)
    scores, reason = executor._with_global_floor(scores_of(**splits), examples, STAGE)
    assert reason.startswith("the training images differ in size: ")
    executor._write_scores(scores, tmp_path / "images.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "images.jsonl").read_text().splitlines()]
    assert [row["global_floor_psnr"] for row in rows] == [None] * 5
