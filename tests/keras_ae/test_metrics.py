import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import correlate1d
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from keras_ae import metrics


def noisy(image: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 12, image.shape)
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


def crops(photographs):
    grey = photographs[2][..., :1]
    return [photographs[0], photographs[1][:101, :77], photographs[2][:11, :11], grey[:64, :90]]


@pytest.mark.parametrize("index", range(4))
def test_psnr_and_ssim_agree_with_scikit_image(photographs, index):
    image = crops(photographs)[index]
    reconstruction = noisy(image)
    psnr = metrics.psnr_from_mse(metrics.mse(image[None], reconstruction[None]))
    ssim, _ = metrics.ssim_and_ms_ssim(image[None], reconstruction[None])
    assert float(psnr[0]) == pytest.approx(peak_signal_noise_ratio(image, reconstruction), abs=1e-4)
    theirs = structural_similarity(
        image,
        reconstruction,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1,
        data_range=255,
    )
    assert float(ssim[0]) == pytest.approx(theirs, abs=1e-4)


def test_ms_ssim_agrees_with_tensorflow_where_all_scales_fit(photographs):
    image = photographs[0][:288, :448]
    reconstruction = noisy(image)
    _, ours = metrics.ssim_and_ms_ssim(image[None], reconstruction[None])
    theirs = tf.image.ssim_multiscale(image[None], reconstruction[None], 255)
    assert float(ours[0]) == pytest.approx(float(theirs[0]), abs=1e-4)


def test_ms_ssim_of_a_small_image_uses_the_scales_that_fit(photographs):
    image = photographs[0][:40, :52, :1]
    reconstruction = noisy(image)
    _, ours = metrics.ssim_and_ms_ssim(image[None], reconstruction[None])
    assert float(ours[0]) == pytest.approx(
        _ms_ssim(image[..., 0], reconstruction[..., 0], 2), abs=1e-4
    )


def _ms_ssim(a: np.ndarray, b: np.ndarray, scales: int) -> float:
    """MS-SSIM of one channel as in Wang et al. 2003, in NumPy."""
    a, b = a / 255.0, b / 255.0
    kernel = np.exp(-((np.arange(11) - 5.0) ** 2) / 4.5)
    kernel /= kernel.sum()

    def blur(x):
        return correlate1d(correlate1d(x, kernel, 0), kernel, 1)[5:-5, 5:-5]

    weights = np.array(metrics.SCALE_WEIGHTS[:scales])
    result = 1.0
    for scale, weight in enumerate(weights / weights.sum()):
        u, v = blur(a), blur(b)
        cs = (2 * (blur(a * b) - u * v) + metrics.C2) / (
            blur(a * a) + blur(b * b) - u * u - v * v + metrics.C2
        )
        luminance = (2 * u * v + metrics.C1) / (u * u + v * v + metrics.C1)
        term = (cs * luminance).mean() if scale == scales - 1 else cs.mean()
        result *= max(term, 0) ** weight
        h, w = a.shape[0] // 2 * 2, a.shape[1] // 2 * 2
        a, b = (x[:h, :w].reshape(h // 2, 2, w // 2, 2).mean((1, 3)) for x in (a, b))
    return result


def test_an_exact_reconstruction_has_100_db(photographs):
    image = photographs[0][None]
    assert float(metrics.psnr_from_mse(metrics.mse(image, image))[0]) == 100.0
    ssim, ms_ssim = metrics.ssim_and_ms_ssim(image, image)
    assert float(ssim[0]) == pytest.approx(1.0)
    assert float(ms_ssim[0]) == pytest.approx(1.0)


@pytest.mark.parametrize("size", [(1, 1), (1, 100), (10, 30), (11, 10)])
def test_images_smaller_than_the_window_have_no_ssim(size):
    image = np.zeros((2, *size, 3), np.uint8)
    for value in metrics.ssim_and_ms_ssim(image, image):
        assert np.isnan(np.asarray(value)).all()


def test_dynamic_sizes_give_the_same_as_static_ones(photographs):
    spec = tf.TensorSpec((None, None, None, 3), tf.uint8)
    in_graph = tf.function(metrics.ssim_and_ms_ssim, input_signature=[spec, spec])
    for image in (photographs[0][:200, :301], photographs[0][:33, :57], photographs[0][:1, :9]):
        pair = image[None], noisy(image)[None]
        for ours, dynamic in zip(metrics.ssim_and_ms_ssim(*pair), in_graph(*pair)):
            np.testing.assert_allclose(np.asarray(ours), np.asarray(dynamic), atol=1e-4)


def test_opposite_images_give_a_finite_ms_ssim():
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 1), np.uint8)
    _, value = metrics.ssim_and_ms_ssim(image, 255 - image)
    assert 0 <= float(value[0]) < 0.1
