import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_ae import contract as c
from keras_ae import metrics, presets
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder, load_model
from keras_ae.models.layers import to_float, to_uint8
from keras_ae.presets import Preset
from keras_ae.saved_model.calibration import Calibration
from keras_ae.saved_model.export import export
from keras_ae.saved_model.signatures import Signatures
from keras_ae.saved_model.tiled_metrics import measure_quality, patch_mse
from tests import tiny

TILE = 64
assert TILE < tiny.TILE
# As many layers as "baseline" and "medium", but narrower.
NARROW_PRESETS = [
    Preset("plain", "plain", (8, 8)),
    Preset("residual", "linear-residual", (8,), (1, 6)),
]


def make_model(preset: str | Preset, channels: int, pca: linear.PatchPCA) -> ConvAutoencoder:
    """Creates a model whose residual path changes every pixel by a few grey levels."""
    model = ConvAutoencoder(preset, channels)
    rng = np.random.default_rng(0)
    if model.preset.architecture == "plain":
        model.set_weights([2 * weight for weight in model.get_weights()])
    else:
        linear.set_linear_path(model, pca)
        for layer in (model.encoder.get_layer("encode_out"), model.decoder.get_layer("decode_out")):
            layer.set_weights([rng.normal(0, 0.02, w.shape) for w in layer.get_weights()])
    return model


def signatures(model: ConvAutoencoder, pca: linear.PatchPCA, tile: int = TILE) -> dict:
    functions = Signatures(model, pca, Calibration([1e-3]), tile).functions
    return {
        name: lambda value, f=function: {k: v.numpy() for k, v in f(value).items()}
        for name, function in functions.items()
    }


@pytest.fixture(scope="module")
def pca(photographs) -> linear.PatchPCA:
    return linear.fit(linear.patch_moments(photographs, 8), 8)


@pytest.fixture(scope="module", params=NARROW_PRESETS, ids=lambda preset: preset.name)
def tiled(request, pca):
    """A model of each architecture, and its signatures with a tile far smaller than the images."""
    model = make_model(request.param, 3, pca)
    return model, signatures(model, pca)


@pytest.mark.parametrize(
    "shape",
    [(1, 64, 65), (2, 65, 129), (1, 203, 131), (1, 1, 2000), (2, 700, 1), (3, 72, 8), (40, 16, 24)],
)
def test_reconstructions_in_tiles_have_no_seams(tiled, photographs, shape):
    model, functions = tiled
    count, height, width = shape
    source = np.tile(photographs[1], (2, 4, 1))
    images = np.stack([source[i : i + height, i : i + width] for i in range(count)])
    outputs = functions[c.RECONSTRUCT](tf.constant(images))
    whole = np.asarray(to_uint8(model(to_float(images))))
    tiles = outputs[c.RECONSTRUCTIONS]
    assert tiles.shape == images.shape
    assert np.abs(tiles.astype(int) - whole).max() <= 1
    assert (tiles != whole).mean() < 1e-3
    latents = functions[c.ENCODE](tf.constant(images))[c.LATENTS]
    np.testing.assert_allclose(latents, model.encode(to_float(images)), atol=1e-4)
    decoded = functions[c.DECODE](tf.constant(latents))[c.IMAGES]
    assert np.array_equal(decoded[:, :height, :width], tiles)


def test_tiles_without_their_receptive_field_have_seams(pca, photographs, monkeypatch):
    images = photographs[1][None, :200, :130]
    for preset in NARROW_PRESETS:
        model = make_model(preset, 3, pca)
        whole = np.asarray(to_uint8(model(to_float(images))))
        with monkeypatch.context() as patch:
            patch.setattr(ConvAutoencoder, "receptive_radius", (0, 0))
            outputs = signatures(model, pca)[c.RECONSTRUCT](tf.constant(images))
        difference = np.abs(outputs[c.RECONSTRUCTIONS].astype(int) - whole)
        assert difference[:, 56:72].max() > 1


@functools.cache
def traced_measure_quality(count: int):
    """`measure_quality` for `count` reconstructions of images of any size."""
    pixels = tf.TensorSpec((None, None, None, 3), tf.uint8)
    reconstructions = tf.TensorSpec((count, None, None, None, 3), tf.uint8)
    return tf.function(
        functools.partial(measure_quality, tile=TILE, scales=5),
        input_signature=[pixels, reconstructions],
        autograph=False,
    )


@pytest.mark.parametrize("size", [(64, 65), (203, 131), (350, 390), (30, 300), (9, 200), (75, 74)])
def test_metrics_in_tiles_equal_those_of_the_whole_image(photographs, size):
    images = np.stack([p[: size[0], : size[1]] for p in (photographs[1], photographs[2])])
    noise = np.random.default_rng(0).normal(0, 9, images.shape)
    noisy = np.clip(images + noise, 0, 255).astype(np.uint8)

    # One reconstruction takes another path than several, which share a `Reference`.
    for batch in (noisy[None], np.stack([images, noisy])):
        quality = traced_measure_quality(len(batch))(tf.constant(images), tf.constant(batch))
        assert quality.mse.shape == (len(batch), 2)
        for i, reconstruction in enumerate(batch):
            ssim, ms_ssim = metrics.ssim_and_ms_ssim(images, reconstruction)
            np.testing.assert_allclose(
                quality.mse[i], metrics.mse(images, reconstruction), rtol=1e-5
            )
            np.testing.assert_allclose(quality.ssim[i], ssim, atol=2e-6)
            np.testing.assert_allclose(quality.ms_ssim[i], ms_ssim, atol=2e-6)


@pytest.mark.parametrize("size", [(64, 65), (203, 131), (9, 200)])
def test_the_error_of_the_floor_in_tiles_equals_that_of_the_whole_image(photographs, pca, size):
    images = np.stack([p[: size[0], : size[1]] for p in (photographs[1], photographs[2])])
    reconstruct = functools.partial(linear.reconstruct_rounded, pca=pca, stride=8)
    tiled_mse = patch_mse(tf.constant(images), reconstruct, tile=TILE, stride=8)
    np.testing.assert_allclose(tiled_mse, metrics.mse(images, reconstruct(images)), rtol=1e-5)


def test_scores_do_not_depend_on_the_tile_size(tiny_model, pca, photographs, encode):
    folder = tiny_model("uncalibrated")
    example = tf.train.Example()
    data = encode(photographs[0][:201, :170], "PNG")
    example.features.feature[c.IMAGE_ENCODED].bytes_list.value.append(data)
    request = tf.constant([example.SerializeToString()])
    small = signatures(load_model(folder / "model.keras"), pca)[c.SCORE](request)
    exported = tf.saved_model.load(str(folder / "Format-Serving"))
    large = exported.signatures[c.SCORE](examples=request)
    for name in small.keys() - {c.STATUS, c.PERCENTILE, c.VAL_IMAGES}:
        np.testing.assert_allclose(small[name], large[name], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_nothing_beyond_the_receptive_radius_has_an_influence(preset, pca):
    model = make_model(preset, 3, pca)
    encoder, decoder = model.receptive_radius
    images = np.random.default_rng(1).random((1, 240, 8, 3), np.float32)
    latents = np.asarray(model.encode(images))
    changed = images.copy()
    changed[:, 120] = 1 - changed[:, 120]
    affected = np.abs(np.asarray(model.encode(changed)) - latents).max((0, 2, 3)) > 1e-6
    assert not affected[: 15 - encoder].any()
    assert not affected[15 + encoder + 1 :].any()
    changed = latents.copy()
    changed[:, 15] += 1
    difference = np.asarray(model.decode(changed)) - np.asarray(model.decode(latents))
    affected = np.abs(difference).max((0, 2, 3)) > 1e-7
    assert not affected[: (15 - decoder) * 8].any()
    assert not affected[(15 + decoder + 1) * 8 :].any()
    # The bound is tight: pixels within it are affected.
    assert affected[(15 - decoder) * 8 : (15 - decoder + 1) * 8].any()


MEMORY = """
import re, sys
from pathlib import Path
import numpy as np, tensorflow as tf
functions = tf.saved_model.load(sys.argv[1]).signatures
def peak():
    # Not getrusage, whose peak includes that of the parent.
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
rows, columns = np.arange(1024, dtype=np.uint8), np.arange(2048, dtype=np.uint8)
image = np.stack([rows[:, None] ^ columns[None]] * 3, -1)
for pixels in (image[:64, :64], image):
    reconstruct = functions["reconstruct"](images=tf.constant(pixels[None]))
    default = functions["serving_default"](image_bytes=tf.io.encode_png(pixels)[None])
    assert default["status"][0] == b""
    print(peak())
"""


def test_a_large_image_takes_bounded_memory_and_prints_no_warning(tmp_path, pca):
    export(ConvAutoencoder("baseline"), tmp_path / "model", floor=pca, tile=256)
    process = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "model")],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    small, large = map(float, process.stdout.split())
    # Without tiles it takes 750 MB: several copies of 2 Mi pixels in 32 channels of float32.
    assert large - small < 250
    assert "oneDNN supports" not in process.stderr
