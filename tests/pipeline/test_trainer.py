import json

import numpy as np
import pytest
import tensorflow as tf

from keras_ae import metrics
from keras_ae.datasets.sources import Record
from keras_ae.datasets.streaming import StoredImages
from keras_ae.models import ConvAutoencoder
from keras_ae.tiles import to_float, to_uint8
from keras_ae.training import Ladder
from pipeline import trainer
from pipeline.components.image_example_gen.executor import to_example

SETTINGS = {
    "start": 0,
    "stop": 2,
    "preset": "small",
    "channels": 3,
    "stride": 8,
    "latent_channels": 8,
    "seed": 0,
    "batch_size": 32,
    "memory_limit": None,
    "checkpoints": "checkpoints",
    "fingerprint": "0123",
}


@pytest.fixture
def pixels(photographs) -> list[np.ndarray]:
    sizes = [(64, 64)] * 5 + [(64, 90), (64, 64), (100, 70)]
    return [photographs[i % 3][i : i + h, i : i + w] for i, (h, w) in enumerate(sizes)]


@pytest.fixture
def examples(pixels, encode, tmp_path) -> str:
    path = str(tmp_path / "examples.gz")
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(path, options) as writer:
        for i, image in reversed(list(enumerate(pixels))):
            writer.write(to_example(Record(f"{i}.png", encode(image, "PNG")), 3))
    return path


@pytest.mark.parametrize(
    ("limit", "text", "placement"),
    [
        (None, "    training images: 0.1 MB decoded, in memory\n", "in memory"),
        (112_008, "    training images: 0.1 MB decoded, in memory\n", "in memory"),
        (
            20_000,
            "    training images: 0.1 MB decoded, more than 0.0 MB: streamed\n",
            "streamed",
        ),
    ],
)
def test_images_are_streamed_if_they_need_more_than_the_limit(
    examples, limit, text, placement, capsys
):
    images = StoredImages([examples])
    assert images.decoded_bytes(3) == 3 * (6 * 64 * 64 + 64 * 90 + 100 * 70)
    tiles = trainer._tiles(trainer.StageConfig(**{**SETTINGS, "memory_limit": limit}), images)
    assert tiles.placement == placement
    assert capsys.readouterr().out == text


def test_a_later_stage_does_not_say_it_again(examples, capsys):
    config = trainer.StageConfig(**{**SETTINGS, "start": 1})
    trainer._tiles(config, StoredImages([examples]))
    assert capsys.readouterr().out == ""


def test_a_checkpoint_is_of_one_placement_whatever_the_limit(examples):
    images = StoredImages([examples])

    def key(limit: int) -> str:
        config = trainer.StageConfig(**{**SETTINGS, "memory_limit": limit})
        ladder = Ladder(ConvAutoencoder("small"), trainer._tiles(config, images))
        return trainer._key(config, ladder, None, [examples])

    assert key(0) == key(1)
    assert key(10**9) == key(10**10)
    assert key(0) != key(10**9)


def test_images_are_read_in_the_order_of_their_sources(examples, pixels):
    read = trainer.read_images(StoredImages([examples]), 3)
    assert len(read) == len(pixels)
    assert all(np.array_equal(a, b) for a, b in zip(read, pixels))


@pytest.mark.parametrize("together", [1, 64 * 64 * 2, 10**6])
def test_each_image_has_the_error_that_it_has_alone(examples, pixels, together, monkeypatch):
    monkeypatch.setattr(trainer, "SCORED_PIXELS", together)
    model = ConvAutoencoder("small")
    found = trainer.mse_of_each(model, StoredImages([examples]).read(3))
    alone = [float(metrics.mse(x[None], to_uint8(model(to_float(x[None]))))[0]) for x in pixels]
    np.testing.assert_allclose(sorted(found), sorted(alone), rtol=1e-3)
    assert json.dumps(found)
