import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from keras_ae import presets
from keras_ae.datasets.sources.base import Record
from keras_ae.datasets.streaming import StoredImages
from keras_ae.models import linear
from pipeline import trainer, training_data
from pipeline.components.image_example_gen.writing import to_example
from pipeline.runtime import environment, ladder_cache
from pipeline.runtime.settings import StageConfig
from pipeline.runtime.stages import read_summary
from tests.tiny import TINY

CONFIG = StageConfig(
    start=0,
    stop=10,
    preset=presets.DEFAULT,
    channels=3,
    stride=8,
    latent_channels=8,
    seed=0,
    batch_size=32,
    tile=256,
    memory_limit_bytes=None,
    checkpoints="somewhere",
    fingerprint="0123",
)
STAGES = ("0-1-0", "1-2-0")
VALUES = {"depth": 2, "width_2": 24, "learning_rate": 2e-3, "batch_size": 16}


def test_a_stage_takes_its_preset_from_the_tuner_if_there_is_one():
    assert trainer._preset(CONFIG, None) == (presets.get(presets.DEFAULT), 32)
    preset, batch_size = trainer._preset(CONFIG, {"space": [], "values": VALUES})
    assert (preset.widths, sum(preset.blocks), preset.learning_rate) == ((24,), 2, 2e-3)
    assert preset.name == f"{presets.DEFAULT} tuned"
    assert batch_size == 16


def test_a_checkpoint_is_used_for_the_same_settings_and_placement_only(tmp_path):
    (tmp_path / "data").write_text("images")

    def key(values, streamed=False, **changes):
        config = dataclasses.replace(CONFIG, **changes)
        preset, batch_size = trainer._preset(config, values and {"values": values})
        settings = trainer._settings(config, preset, batch_size, streamed)
        return training_data.digest(settings, [tmp_path / "data"])

    other = {"width_2": 32, "learning_rate": 1e-3, "batch_size": 8}
    variants = [None, VALUES, *({**VALUES, name: value} for name, value in other.items())]
    keys = [*map(key, variants), key(None, True), key(None, seed=1)]
    keys += [key(None, stride=4), key(None, latent_channels=4)]
    assert len(set(keys)) == len(keys)
    assert key(None, checkpoints="elsewhere", memory_limit_bytes=7, tile=512) == keys[0]
    (tmp_path / "data").write_text("other images")
    assert key(None) not in keys


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
        (None, "112 kB decoded, in memory", "in memory"),
        (112_008, "112 kB decoded, in memory", "in memory"),
        (20_000, "112 kB decoded, more than 20 kB: streamed", "streamed"),
    ],
)
def test_images_are_streamed_if_they_need_more_than_the_limit(
    examples, limit, text, placement, capsys
):
    images = training_data.TrainingImages([examples], 3, limit)
    assert images.decoded_bytes == 3 * (6 * 64 * 64 + 64 * 90 + 100 * 70)
    assert images.tiles(stride=8, batch_size=32, seed=0).placement == placement
    images.report_placement(to_terminal=False)
    assert capsys.readouterr().out == ""
    images.report_placement(to_terminal=True)
    assert capsys.readouterr().out == f"    training images: {text}\n"


def test_images_are_read_in_the_order_of_their_sources(examples, pixels):
    read = training_data.read_images(StoredImages([examples]), 3)
    assert len(read) == len(pixels)
    assert all(np.array_equal(a, b) for a, b in zip(read, pixels))


def test_the_next_stage_continues_with_the_cached_ladder(tmp_path, examples, monkeypatch):
    ladders = []
    create = trainer.create_ladder

    def created(*args, **settings):
        ladders.append(create(*args, **settings))
        return ladders[-1]

    monkeypatch.setattr(trainer, "create_ladder", created)
    monkeypatch.setattr(trainer.Exporter, "write", lambda self, path, val_mse: None)
    monkeypatch.setattr(trainer, "read_moments", lambda graph: np.eye(193))
    monkeypatch.setitem(presets.PRESETS, "tiny", TINY)

    def train(start: int, stop: int, base: str, seed: int = 0) -> None:
        settings = {"start": start, "stop": stop, "preset": "tiny", "seed": seed}
        folder = tmp_path / f"{start}-{stop}-{seed}"
        trainer.run_fn(
            FnArgs(
                custom_config={**vars(CONFIG), **settings, "checkpoints": str(tmp_path / base)},
                train_files=[examples],
                eval_files=[examples],
                transform_graph_path="",
                base_model=str(tmp_path / base / "Format-Serving"),
                model_run_dir=str(folder / "logs"),
                serving_model_dir=str(folder / "Format-Serving"),
            )
        )

    def weights(folder: str) -> list[np.ndarray]:
        with np.load(tmp_path / folder / trainer.STATE) as state:
            return [state[name] for name in sorted(state.files) if "model/" in name]

    ladder_cache.clear()
    train(0, 1, "none")
    train(1, 2, "0-1-0")
    assert len(ladders) == 1
    once = weights("1-2-0")
    summaries = [read_summary(tmp_path / stage) for stage in STAGES]
    assert [len(summary.losses) for summary in summaries] == [1, 1]
    assert summaries[0].trained_on == environment.describe()
    assert summaries[0].code_fingerprint == CONFIG.fingerprint
    losses = [summary.losses[0] for summary in summaries]
    np.testing.assert_allclose(losses, ladders[0].losses, rtol=1e-5)
    assert summaries[0].flops_per_pixel == ladders[0].model.flops_per_pixel
    floor = linear.load(tmp_path / "1-2-0" / trainer.FLOOR)
    np.testing.assert_array_equal(floor.components, linear.fit(np.eye(193), 8).components)
    train(1, 2, "0-1-0")
    assert len(ladders) == 1
    assert all(np.array_equal(a, b) for a, b in zip(once, weights("1-2-0"), strict=True))
    train(0, 2, "none")
    assert len(ladders) == 2
    assert all(np.array_equal(a, b) for a, b in zip(once, weights("0-2-0"), strict=True))
    train(0, 1, "none", seed=1)
    assert len(ladders) == 3
    ladder_cache.clear()
