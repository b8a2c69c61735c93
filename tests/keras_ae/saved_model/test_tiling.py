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
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.models.layers import to_float, to_uint8
from keras_ae.presets import Preset
from keras_ae.saved_model.calibration import Calibration
from keras_ae.saved_model.export import export
from keras_ae.saved_model.signatures import Signatures
from keras_ae.saved_model.tiled_metrics import error, measure
from tests.tiny import TINY

TILE = 64
# As deep as "baseline" and "medium".
NARROW = [
    Preset("plain", "plain", (8, 8)),
    Preset("residual", "linear-residual", (8,), (1, 6)),
]


def lively(preset: str | Preset, channels: int, pca: linear.PatchPCA) -> ConvAutoencoder:
    """A model whose residual path adds some grey levels everywhere."""
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


@pytest.fixture(scope="module", params=NARROW, ids=lambda preset: preset.name)
def tiled(request, pca):
    """A model of each family, and its signatures with a tile far smaller than the images."""
    model = lively(request.param, 3, pca)
    return model, signatures(model, pca)


@pytest.mark.parametrize(
    "shape",
    [(1, 64, 65), (2, 65, 129), (1, 203, 131), (1, 1, 2000), (2, 700, 1), (3, 72, 8), (40, 16, 24)],
)
def test_tiles_leave_no_seam(tiled, photographs, shape):
    model, functions = tiled
    count, height, width = shape
    source = np.tile(photographs[1], (2, 4, 1))
    images = np.stack([source[i : i + height, i : i + width] for i in range(count)])
    answers = functions[c.RECONSTRUCT](tf.constant(images))
    whole = np.asarray(to_uint8(model(to_float(images))))
    tiles = answers[c.RECONSTRUCTIONS]
    assert tiles.shape == images.shape
    assert np.abs(tiles.astype(int) - whole).max() <= 1
    assert (tiles != whole).mean() < 1e-3
    latents = functions[c.ENCODE](tf.constant(images))[c.LATENTS]
    np.testing.assert_allclose(latents, model.encode(to_float(images)), atol=1e-4)
    back = functions[c.DECODE](tf.constant(latents))[c.IMAGES]
    assert np.array_equal(back[:, :height, :width], tiles)


def test_without_what_lies_around_a_tile_there_would_be_seams(pca, photographs, monkeypatch):
    images = photographs[1][None, :200, :130]
    for preset in NARROW:
        model = lively(preset, 3, pca)
        whole = np.asarray(to_uint8(model(to_float(images))))
        with monkeypatch.context() as patch:
            patch.setattr(ConvAutoencoder, "reach", (0, 0))
            answers = signatures(model, pca)[c.RECONSTRUCT](tf.constant(images))
        difference = np.abs(answers[c.RECONSTRUCTIONS].astype(int) - whole)
        assert difference[:, 56:72].max() > 1


@functools.cache
def in_tiles(several: int):
    """`measure` for images of any size."""
    pixels = tf.TensorSpec((None, None, None, 3), tf.uint8)
    others = tf.TensorSpec((several, None, None, None, 3), tf.uint8)
    return tf.function(
        functools.partial(measure, tile=TILE, scales=5),
        input_signature=[pixels, others],
        autograph=False,
    )


@pytest.mark.parametrize("size", [(64, 65), (203, 131), (350, 390), (30, 300), (9, 200), (75, 74)])
def test_scores_of_tiles_are_those_of_the_whole(unoptimized_graphs, photographs, size):
    images = np.stack([p[: size[0], : size[1]] for p in (photographs[1], photographs[2])])
    noise = np.random.default_rng(0).normal(0, 9, images.shape)
    others = np.clip(images + noise, 0, 255).astype(np.uint8)

    # One reconstruction alone, and two that share the original's side.
    for several in (others[None], np.stack([images, others])):
        found = in_tiles(len(several))(tf.constant(images), tf.constant(several))
        assert found.mse.shape == (len(several), 2)
        for i, other in enumerate(several):
            ssim, ms_ssim = metrics.structural(images, other)
            np.testing.assert_allclose(found.mse[i], metrics.mse(images, other), rtol=1e-5)
            np.testing.assert_allclose(found.ssim[i], ssim, atol=2e-6)
            np.testing.assert_allclose(found.ms_ssim[i], ms_ssim, atol=2e-6)


@pytest.mark.parametrize("size", [(64, 65), (203, 131), (9, 200)])
def test_the_error_of_the_floor_in_tiles_is_that_of_the_whole(photographs, pca, size):
    images = np.stack([p[: size[0], : size[1]] for p in (photographs[1], photographs[2])])
    floor = functools.partial(linear.reconstruct_rounded, pca=pca, stride=8)
    found = error(tf.constant(images), floor, tile=TILE, stride=8)
    np.testing.assert_allclose(found, metrics.mse(images, floor(images)), rtol=1e-5)


def test_a_tile_as_large_as_the_image_answers_alike(unoptimized_graphs, pca, photographs, encode):
    model = lively(TINY, 3, pca)
    example = tf.train.Example()
    data = encode(photographs[0][:201, :170], "PNG")
    example.features.feature[c.IMAGE_ENCODED].bytes_list.value.append(data)
    request = tf.constant([example.SerializeToString()])
    small, large = (signatures(model, pca, tile)[c.SCORE](request) for tile in (TILE, 256))
    for name, values in large.items():
        if name != c.STATUS:
            np.testing.assert_allclose(small[name], values, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_what_lies_beyond_the_reach_has_no_influence(preset, pca):
    model = lively(preset, 3, pca)
    encoder, decoder = model.reach
    images = np.random.default_rng(1).random((1, 240, 8, 3), np.float32)
    latents = np.asarray(model.encode(images))
    changed = images.copy()
    changed[:, 120] = 1 - changed[:, 120]
    moved = np.abs(np.asarray(model.encode(changed)) - latents).max((0, 2, 3)) > 1e-6
    assert not moved[: 15 - encoder].any()
    assert not moved[15 + encoder + 1 :].any()
    changed = latents.copy()
    changed[:, 15] += 1
    difference = np.asarray(model.decode(changed)) - np.asarray(model.decode(latents))
    moved = np.abs(difference).max((0, 2, 3)) > 1e-7
    assert not moved[: (15 - decoder) * 8].any()
    assert not moved[(15 + decoder + 1) * 8 :].any()
    # The bound is not far from what there is.
    assert moved[(15 - decoder) * 8 : (15 - decoder + 1) * 8].any()


MEMORY = """
import resource, sys
import numpy as np, tensorflow as tf
functions = tf.saved_model.load(sys.argv[1]).signatures
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
row = np.arange(2048, dtype=np.uint8)
image = np.stack([row[:, None] ^ row[None]] * 3, -1)
for pixels in (image[:64, :64], image):
    reconstruct = functions["reconstruct"](images=tf.constant(pixels[None]))
    default = functions["serving_default"](image_bytes=tf.io.encode_png(pixels)[None])
    assert default["status"][0] == b""
    print(peak())
"""


def test_a_large_image_takes_a_bounded_memory_and_leaves_no_complaint(tmp_path, pca):
    export(ConvAutoencoder("baseline"), tmp_path / "model", floor=pca, tile=256)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "model")],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    small, large = map(float, done.stdout.split())
    # At once it takes 1500 MB: 4 Mi pixels in 32 channels of float32, some times over.
    assert large - small < 300
    assert "oneDNN supports" not in done.stderr
