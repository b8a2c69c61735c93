import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageDraw

from keras_ae import contract as c
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.saved_model.calibration import QUANTILES, Calibration
from keras_ae.saved_model.signatures import Signatures
from keras_ae.training.validation import mse_per_image


@pytest.mark.parametrize("count", [1, 2, 3, 10, QUANTILES, QUANTILES + 1, 2500, 100_000])
def test_the_percentile_is_the_share_of_lower_errors_with_the_query_counted(count):
    errors = np.random.default_rng(0).lognormal(-7, 1, count).astype(np.float32)
    queries = np.concatenate([errors[:500], errors[:500] * 1.01, [0, 1e9]]).astype(np.float32)
    share = Calibration(errors.tolist()).percentile(tf.constant(queries)).numpy()
    expected = np.searchsorted(np.sort(errors), queries) / (count + 1)
    np.testing.assert_allclose(share, expected, atol=1e-6 if count <= QUANTILES else 1e-3)
    assert share[-2] == 0
    assert share[-1] == np.float32(count / (count + 1))


def test_equal_errors_count_as_not_lower():
    share = Calibration([0.5] * 5000 + [0.7] * 5000).percentile(tf.constant([0.5, 0.6, 0.7, 0.8]))
    np.testing.assert_allclose(share, [0, 0.5, 0.5, 1], atol=1e-3)


def test_nan_is_ignored_and_has_no_percentile():
    nan = float("nan")
    share = Calibration([nan, 0.1, nan, 0.3]).percentile(tf.constant([0.2, nan])).numpy()
    assert share[0] == np.float32(1 / 3)
    assert np.isnan(share[1])
    for no_errors in ([], [nan]):
        assert np.isnan(Calibration(no_errors).percentile(tf.constant([0.1, nan])).numpy()).all()


def test_with_few_val_images_no_percentile_is_high():
    for count, maximum in ((3, 0.75), (98, 98 / 99), (99, 0.99)):
        share = Calibration([0.1] * count).percentile(tf.constant([1.0])).numpy()
        assert share[0] == np.float32(maximum)


def random_crops(images, count: int, seed: int) -> np.ndarray:
    """Random crops of images, uint8 [count, 64, 64, 3]."""
    rng = np.random.default_rng(seed)
    crops = []
    for i in range(count):
        image = images[i % len(images)]
        top, left = (rng.integers(0, side - 63) for side in image.shape[:2])
        crops.append(image[top : top + 64, left : left + 64])
    return np.stack(crops)


def unusual_images() -> dict[str, np.ndarray]:
    """Images that are not photographs, uint8 [64, 64, 3] each."""
    text = Image.new("RGB", (64, 64), "white")
    for row in range(0, 64, 10):
        ImageDraw.Draw(text).text((0, row), f"Row {row} of dense text", fill="black")
    lines = np.zeros((64, 64, 3), np.uint8)
    lines[::3] = 255
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return {
        "noise": noise,
        "text": np.asarray(text),
        "lines": lines,
        "grid": lines | lines.swapaxes(0, 1),
    }


def test_unusual_images_are_above_the_99th_percentile(photographs):
    pca = linear.fit(linear.patch_moments(photographs, 8), 8)
    model = ConvAutoencoder("small")
    linear.set_linear_path(model, pca)
    val = random_crops(photographs, 300, seed=0)
    functions = Signatures(model, pca, Calibration(mse_per_image(model, val)), 256).functions

    def percentile(images: np.ndarray) -> np.ndarray:
        return functions[c.RECONSTRUCT](tf.constant(images))[c.PERCENTILE].numpy()

    for name, image in unusual_images().items():
        assert percentile(image[None])[0] > 0.99, name
    same_kind = percentile(random_crops(photographs, 100, seed=1))
    assert (same_kind > 0.99).mean() < 0.1
    assert 0.3 < same_kind.mean() < 0.7
