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
    height, width = ops.shape(images)[1:3]
    sums = structural_sums(images, others, height, width)
    ssim, ms_ssim = structural_from_sums(sums, height, width)
    return ssim, ms_ssim


def structural_sums(images, others, height, width, scales: int = len(SCALE_WEIGHTS)):
    """The sums behind SSIM and MS-SSIM over the windows that begin in one part of the images.

    The sums of the parts of a large image add up to its own, if each part begins at a multiple
    of 2 ** (scales - 1) pixels and is given with the `margin(scales)` rows below it and columns
    to its right, or with those that there are.

    Args:
        images, others: uint8 tensors [N, H, W, C]: the part and its margin.
        height, width: of the part without the margin, in pixels.
        scales: of MS-SSIM, 1 to 5; 1 is enough for SSIM.

    Returns:
        float32 [N, C, scales, 2]: of luminance times contrast, and of contrast.
    """
    channels = images.shape[-1]
    x, y = _planes(images), _planes(others)
    sums = []
    for scale in range(scales):
        if scale:
            x, y = _halve(x), _halve(y)
        rows, columns = (
            _positions(size // 2**scale, side)
            for size, side in zip((height, width), ops.shape(x)[1:3])
        )
        seen = [
            _at_least_window(planes[:, : rows + WINDOW - 1, : columns + WINDOW - 1])
            for planes in (x, y)
        ]
        luminance, contrast = _terms(*seen)
        positions = ops.cast(rows * columns, "float32")
        sums.append(ops.stack([_mean(luminance * contrast), _mean(contrast)], -1) * positions)
    return ops.reshape(ops.stack(sums, 1), (-1, channels, scales, 2))


def structural_from_sums(sums, height, width):
    """SSIM and MS-SSIM of whole images from what `structural_sums` gives.

    Args:
        sums: float tensor [N, C, scales, 2].
        height, width: of the whole images, in pixels.

    Returns:
        float32 [N] each; MS-SSIM is of the given scales.
    """
    ssim, log_sum, weight_sum = None, 0.0, 0.0
    scales = sums.shape[2]
    for scale, weight in enumerate(SCALE_WEIGHTS[:scales]):
        rows, columns = (size // 2**scale - WINDOW + 1 for size in (height, width))
        fits = _as_float((rows > 0) & (columns > 0))
        count = _as_float(ops.maximum(rows, 1)) * _as_float(ops.maximum(columns, 1))
        product, contrast = (_as_float(sums[:, :, scale, i]) / count for i in (0, 1))
        if ssim is None:
            ssim = product
        # The coarsest scale that fits also counts the luminance.
        last = scale == scales - 1
        finer = WINDOW * 2 ** (scale + 1)
        deeper = 0.0 if last else _as_float((height >= finer) & (width >= finer))
        term = deeper * contrast + (1.0 - deeper) * product
        log_sum += fits * weight * ops.log(ops.maximum(term, 1e-12))
        weight_sum += fits * weight
    fits = weight_sum > 0
    ms_ssim = ops.exp(log_sum / ops.where(fits, weight_sum, 1.0))
    return tuple(
        ops.mean(ops.where(fits, value, float("nan")), axis=1) for value in (ssim, ms_ssim)
    )


def margin(scales: int) -> int:
    """Pixels beyond a part of an image that `structural_sums` looks at."""
    return (WINDOW - 1) * 2 ** (scales - 1)


def _positions(size, side):
    """Windows that begin within `size` pixels and fit into `side`."""
    if isinstance(size, int) and isinstance(side, int):
        return max(min(size, side - WINDOW + 1), 0)
    return ops.maximum(ops.minimum(size, side - WINDOW + 1), 0)


def _as_float(value):
    return ops.cast(value, "float32")


def _planes(images):
    """uint8 [N, H, W, C] -> float32 [N * C, H, W, 1] in 0..1."""
    _, height, width, _ = ops.shape(images)
    planes = ops.transpose(ops.cast(images, "float32") / 255.0, (0, 3, 1, 2))
    return ops.reshape(planes, (-1, height, width, 1))


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
