"""A latent size other than the default, from training to the served model and its report."""

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.types import standard_artifacts

from keras_ae import contract as c
from keras_ae import metrics, presets
from keras_ae.models import linear
from keras_ae.models.autoencoder import load_model
from keras_ae.models.layers import to_float, to_uint8
from keras_ae.saved_model.metadata import Metadata, read_metadata
from pipeline import trainer
from pipeline.components.report.facts import describe_run
from pipeline.runtime import ladder_cache
from pipeline.runtime.artifacts import MODEL
from pipeline.runtime.settings import StageConfig
from pipeline.runtime.stages import read_summary
from tests.tiny import TINY


@pytest.fixture(params=[(4, 2), (16, 3)], ids=str)
def trained(request, photographs, write_examples, tmp_path, monkeypatch):
    """The folder of a Model artifact, its stride and its latent channels."""
    stride, latent_channels = request.param
    images = [photograph[:96, :128] for photograph in photographs]
    pattern, _ = write_examples(images)
    monkeypatch.setattr(trainer, "read_moments", lambda _: linear.patch_moments(images, stride))
    monkeypatch.setitem(presets.PRESETS, "tiny", TINY)
    config = StageConfig(
        start=0, stop=1, preset="tiny", channels=3, stride=stride,
        latent_channels=latent_channels, seed=0, batch_size=8, tile=64, memory_limit_bytes=None,
        checkpoints=str(tmp_path / "checkpoints"), fingerprint="0123",
    )  # fmt: skip
    folder = tmp_path / "model"
    ladder_cache.clear()
    trainer.run_fn(
        FnArgs(
            custom_config=vars(config),
            train_files=[pattern],
            eval_files=[pattern],
            transform_graph_path="",
            base_model="",
            model_run_dir=str(folder / "logs"),
            serving_model_dir=str(folder / "Format-Serving"),
        )
    )
    ladder_cache.clear()
    return folder, stride, latent_channels


def test_a_trained_model_is_served_and_described_with_its_latent_size(trained, photographs):
    folder, stride, latent_channels = trained
    served = tf.saved_model.load(str(folder / "Format-Serving")).signatures
    model = load_model(folder / MODEL)
    # Several tiles; neither side is a multiple of a stride.
    images = np.stack([photograph[:203, :131] for photograph in photographs[:2]])
    latents = served[c.ENCODE](images=tf.constant(images))[c.LATENTS].numpy()
    assert latents.shape == (2, -(-203 // stride), -(-131 // stride), latent_channels)
    np.testing.assert_allclose(latents, model.encode(to_float(images)), atol=2e-3)
    outputs = served[c.RECONSTRUCT](images=tf.constant(images))
    whole = np.asarray(to_uint8(model(to_float(images))))
    tiles = outputs[c.RECONSTRUCTIONS].numpy()
    assert tiles.shape == images.shape
    assert np.abs(tiles.astype(int) - whole).max() <= 1
    psnr = metrics.psnr_from_mse(metrics.mse(images, tiles))
    np.testing.assert_allclose(outputs[c.PSNR], psnr, rtol=1e-3)
    decoded = served[c.DECODE](latents=tf.constant(latents))[c.IMAGES].numpy()
    assert np.array_equal(decoded[:, :203, :131], tiles)
    facts = Metadata(stride=stride, latent_channels=latent_channels)
    assert read_metadata(str(folder / "Format-Serving")) == facts
    stage = read_summary(folder)
    run = describe_run(
        standard_artifacts.Examples(), {"model_1": stage}, seeds=[0], command="",
        data_fingerprint="", lineage=(),
    )  # fmt: skip
    assert (
        run.latent
        == {
            4: "2 channels at stride 4: 0.125 values per pixel, 4.2 % of the image's values",
            16: "3 channels at stride 16: 0.0117 values per pixel, 0.39 % of the image's values",
        }[stride]
    )
