from pathlib import Path

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.util.tensor_util import make_ndarray

from pipeline.components.report import tensorboard


@pytest.fixture
def logged(comparison, pictures, tmp_path) -> EventMultiplexer:
    tensorboard.write(comparison, pictures, tmp_path / "report" / "tensorboard")
    multiplexer = EventMultiplexer(size_guidance={"tensors": 0})
    multiplexer.AddRunsFromDirectory(str(tmp_path))
    return multiplexer.Reload()


def scalars(logged: EventMultiplexer, run: str, tag: str) -> dict[int, float]:
    events = logged.Tensors(f"report/tensorboard/{run}", tag)
    return {event.step: float(make_ndarray(event.tensor_proto)) for event in events}


def images(logged: EventMultiplexer, run: str) -> dict[int, int]:
    """The grey level of the image at each step."""
    levels = {}
    for event in logged.Tensors(f"report/tensorboard/{run}", "image/a/b.png"):
        width, height, png = make_ndarray(event.tensor_proto)
        assert (width, height) == (b"9", b"6")
        pixels = tf.io.decode_png(png).numpy()
        assert pixels.min() == pixels.max()
        levels[event.step] = int(pixels.max())
    return levels


def test_tensorboard_shows_each_split_and_ladder_over_epochs(logged):
    assert scalars(logged, "model/train", "psnr") == {10: 30.0, 100: 31.5}
    assert scalars(logged, "model/test", "psnr") == {10: 28.0, 100: 29.5}
    assert scalars(logged, "model/val", "gain_over_floor") == {10: 1.0, 100: 2.5}
    assert scalars(logged, "model/val", "ssim") == pytest.approx({10: 0.8, 100: 0.8})
    assert scalars(logged, "baseline/test", "psnr") == {10: 18.0, 100: 19.5}
    assert scalars(logged, "patch_pca/val", "psnr") == {10: 28.0, 100: 28.0}


def test_means_that_are_not_defined_are_left_out(logged):
    runs = {run.removeprefix("report/tensorboard/"): tags for run, tags in logged.Runs().items()}
    assert set(runs["baseline/val"]["tensors"]) == {"psnr", "gain_over_floor"}
    assert not any(run.startswith("global_pca") for run in runs)


def test_tensorboard_shows_an_image_at_each_budget_with_its_original_and_the_floor(logged):
    assert images(logged, "model/test") == {10: 20, 100: 30}
    assert images(logged, "original/test") == {0: 10}
    assert images(logged, "patch_pca/test") == {0: 15}


def test_pictures_may_be_missing(comparison, tmp_path):
    tensorboard.write(comparison, tmp_path / "none", Path(tmp_path / "logs"))
    assert len(list((tmp_path / "logs").glob("*/*/events*"))) == 9
