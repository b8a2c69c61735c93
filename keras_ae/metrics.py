"""Reconstruction quality per image: MSE, PSNR, SSIM and MS-SSIM, on any Keras backend."""

import math

import numpy as np
from keras import ops

from keras_ae.contract import MAX_PSNR

WINDOW = 11
SIGMA = 1.5
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
C1, C2 = 0.01**2, 0.03**2


def mse(images, others):
    """Mean squared difference of pixels scaled to 0..1.

    Args:
        images, others: uint8 tensors [N, H, W, C].

    Returns:
        float32 [N].
    """
    difference = ops.cast(images, "float32") - ops.cast(others, "float32")
    return ops.mean(ops.square(difference / 255.0), axis=(1, 2, 3))


def psnr_from_mse(values):
    """10 log10(1 / MSE) in dB, at most 100: an exact reconstruction counts as 100.

    Args:
        values: float32 [N], the mean squared error of pixels scaled to 0..1.
    """
    least = 10.0 ** (-MAX_PSNR / 10.0)
    decibels = -10.0 / math.log(10.0) * ops.log(ops.maximum(values, least))
    return ops.where(values <= least, MAX_PSNR, decibels)


def structural(images, others):
    """SSIM and MS-SSIM of each pair, averaged over channels.

    SSIM is that of Wang et al. 2004 (Gaussian window of 11, sigma 1.5) over the positions where
    the window fits. MS-SSIM is that of Wang et al. 2003 with as many of its five scales as fit the
    window, their weights scaled to sum to 1, and negative terms counted as 0.

    Args:
        images, others: uint8 tensors [N, H, W, C]; sizes may be known at run time only.

    Returns:
        float32 [N] each, NaN where a side is shorter than the window.
    """
    x, y = _planes(images), _planes(others)
    channels = images.shape[-1]
    height, width = ops.shape(x)[1:3]
    ssim, log_sum, weight_sum = None, 0.0, 0.0
    side = ops.cast(ops.minimum(height, width), "float32")
    for scale, weight in enumerate(SCALE_WEIGHTS):
        fits = ops.cast(side >= WINDOW, "float32")
        luminance, contrast = _terms(_at_least_window(x), _at_least_window(y))
        product = _mean(luminance * contrast)
        if ssim is None:
            ssim = product
        # The coarsest scale that fits also counts the luminance.
        last = scale == len(SCALE_WEIGHTS) - 1
        deeper = 0.0 if last else ops.cast(ops.floor(side / 2.0) >= WINDOW, "float32")
        term = deeper * _mean(contrast) + (1.0 - deeper) * product
        log_sum += fits * weight * ops.log(ops.maximum(term, 1e-12))
        weight_sum += fits * weight
        if not last:
            x, y = _halve(x), _halve(y)
            side = ops.floor(side / 2.0)
    fits = weight_sum > 0
    ms_ssim = ops.exp(log_sum / ops.where(fits, weight_sum, 1.0))
    return tuple(
        _over_channels(ops.where(fits, value, float("nan")), channels) for value in (ssim, ms_ssim)
    )


def _planes(images):
    """uint8 [N, H, W, C] -> float32 [N * C, H, W, 1] in 0..1."""
    _, height, width, _ = ops.shape(images)
    planes = ops.transpose(ops.cast(images, "float32") / 255.0, (0, 3, 1, 2))
    return ops.reshape(planes, (-1, height, width, 1))


def _over_channels(values, channels: int):
    return ops.mean(ops.reshape(values, (-1, channels)), axis=1)


def _mean(planes):
    return ops.mean(planes, axis=(1, 2, 3))


def _terms(x, y):
    """The luminance and the contrast-structure maps of SSIM."""
    mean_x, mean_y = _blur(x), _blur(y)
    product = mean_x * mean_y
    squares = ops.square(mean_x) + ops.square(mean_y)
    covariance = _blur(x * y) - product
    variances = _blur(ops.square(x) + ops.square(y)) - squares
    luminance = (2.0 * product + C1) / (squares + C1)
    return luminance, (2.0 * covariance + C2) / (variances + C2)


def _blur(planes):
    """Gaussian means at the positions where the window fits."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    kernel = np.exp(-np.square(offsets) / (2 * SIGMA**2))
    kernel = (kernel / kernel.sum()).astype("float32")
    for shape in ((WINDOW, 1, 1, 1), (1, WINDOW, 1, 1)):
        planes = ops.conv(
            planes, ops.reshape(kernel, shape), padding="valid", data_format="channels_last"
        )
    return planes


def _at_least_window(planes):
    height, width = ops.shape(planes)[1:3]
    if isinstance(height, int) and isinstance(width, int) and min(height, width) >= WINDOW:
        return planes
    rows, columns = (ops.maximum(WINDOW - size, 0) for size in (height, width))
    return ops.pad(planes, ((0, 0), (0, rows), (0, columns), (0, 0)))


def _halve(planes):
    """Means of 2 x 2 pixels; a last odd row or column is left out, but a side stays at least 1."""
    height, width = ops.shape(planes)[1:3]
    planes = ops.pad(
        planes,
        ((0, 0), (0, ops.maximum(2 - height, 0)), (0, ops.maximum(2 - width, 0)), (0, 0)),
    )
    return ops.average_pool(planes, 2, 2, padding="valid", data_format="channels_last")
