"""Image quality metrics per image: MSE, PSNR, SSIM and MS-SSIM, on any Keras backend."""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from keras import ops

from keras_ae.contract import MAX_PSNR
from keras_ae.types import Tensor

WINDOW = 11
SIGMA = 1.5
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
C1, C2 = 0.01**2, 0.03**2
"""The constants of SSIM in Wang et al. 2004, for pixels scaled to 0..1."""

Size: TypeAlias = int | Tensor
"""A number of pixels: an integer, or a tensor if it is known only at run time."""
Blur: TypeAlias = Callable[[Tensor], Tensor]

_C1, _C2 = C1 * 255.0**2, C2 * 255.0**2
_BLOCK = 32
_BAND_ROWS = _BLOCK + WINDOW - 1
_KERNEL = np.exp(-np.square(np.arange(WINDOW) - WINDOW // 2) / (2 * SIGMA**2))
_KERNEL = (_KERNEL / _KERNEL.sum()).astype("float32")
# A band matrix [_BAND_ROWS, _BLOCK]: row i, column j has the weight of pixel i in the mean of the
# window that begins at pixel j.
_BAND = np.array([np.pad(_KERNEL, (i, _BLOCK - 1 - i)) for i in range(_BLOCK)]).T


def mse(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Computes the mean squared error of pixels scaled to 0..1, float32 [N], of grey levels 0..255,
    uint8 or float32 [N, H, W, C].

    >>> import numpy as np
    >>> black, white = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)
    >>> np.asarray(mse(black, white)).tolist()
    [1.0]
    """
    difference = ops.cast(images, "float32") - ops.cast(reconstructions, "float32")
    return ops.mean(ops.square(difference), axis=(1, 2, 3)) / 255.0**2


def psnr_from_mse(values: Tensor) -> Tensor:
    """Computes 10 log10(1 / MSE) in dB, float32 [N], at most 100: the value of an exact
    reconstruction. The MSE is that of pixels scaled to 0..1.

    >>> import numpy as np
    >>> np.asarray(psnr_from_mse(np.float32([0.1, 0.01, 0.0]))).round(3).tolist()
    [10.0, 20.0, 100.0]
    """
    min_mse = 10.0 ** (-MAX_PSNR / 10.0)
    decibels = -10.0 / math.log(10.0) * ops.log(ops.maximum(values, min_mse))
    return ops.where(values <= min_mse, MAX_PSNR, decibels)


def ssim_and_ms_ssim(images: Tensor, reconstructions: Tensor) -> tuple[Tensor, Tensor]:
    """Computes SSIM and MS-SSIM of each pair of images, averaged over channels.

    SSIM is that of Wang et al. 2004 (Gaussian window of 11, sigma 1.5) over the positions where
    the window fits. MS-SSIM is that of Wang et al. 2003 with as many of its five scales as fit the
    window, with their weights scaled to sum to 1 and negative terms replaced by 0. The images are
    uint8 [N, H, W, C]; sizes may be known only at run time. The results are float32 [N], NaN where
    a side is shorter than the window.

    >>> import numpy as np
    >>> image = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), np.uint8)
    >>> ssim, ms_ssim = ssim_and_ms_ssim(image, image)
    >>> np.asarray(ssim).tolist(), np.asarray(ms_ssim).round(6).tolist()
    ([1.0], [1.0])
    """
    height, width = ops.shape(images)[1:3]
    sums = Reference(images, height, width).compare(reconstructions)
    return ssim_from_sums(sums.structural, height, width)


def blur(planes: Tensor) -> Tensor:
    """Computes Gaussian means of [N, height, C, width] at the positions where the window fits."""
    width = ops.shape(planes)[3]
    kernel = ops.tile(ops.reshape(_KERNEL, (WINDOW, 1, 1, 1)), (1, 1, width, 1))
    rows = ops.depthwise_conv(planes, kernel, padding="valid", data_format="channels_last")
    count, height, channels, width = ops.shape(rows)
    lines = ops.reshape(rows, (-1, width))
    if _is_static(width):
        lines = _blur_short(lines, width) if width <= _BAND_ROWS else _blur_long(lines, width)
    else:
        lines = ops.cond(
            width <= _BAND_ROWS,
            lambda: _blur_short(lines, width),
            lambda: _blur_long(lines, width),
        )
    return ops.reshape(lines, (count, height, channels, width - WINDOW + 1))


def _blur_short(lines: Tensor, width: Size) -> Tensor:
    """Computes Gaussian means along lines that are at most as long as the band matrix."""
    return ops.matmul(lines, ops.convert_to_tensor(_BAND)[:width, : width - WINDOW + 1])


def _blur_long(lines: Tensor, width: Size) -> Tensor:
    """Computes Gaussian means along lines of any length, in blocks that are extended by the
    beginning of the next one."""
    count = -(-(width - WINDOW + 1) // _BLOCK)
    lines = ops.pad(lines, ((0, 0), (0, (count + 1) * _BLOCK - width)))
    blocks = ops.reshape(lines, (-1, count + 1, _BLOCK))
    blocks = ops.concatenate([blocks[:, :-1], blocks[:, 1:, : WINDOW - 1]], axis=2)
    means = ops.matmul(ops.reshape(blocks, (-1, _BAND_ROWS)), ops.convert_to_tensor(_BAND))
    return ops.reshape(means, (-1, count * _BLOCK))[:, : width - WINDOW + 1]


class Sums(NamedTuple):
    """Sums over a part of each image, from which MSE, SSIM and MS-SSIM of the images are computed.

    Attributes:
        error: float32 [N], the sum of squared differences of grey levels.
        structural: float32 [N, C, scales, 2], sums over the windows of luminance times contrast
            and of contrast alone.
    """

    error: Tensor
    structural: Tensor


class Reference:
    """Originals that are compared with any number of reconstructions.

    What the metrics need of the originals alone is computed once. The comparison covers the pixels
    in one part of the images and the windows that begin there. The sums of the parts of a large
    image add up to those of the image, if each part begins at a multiple of 2 ** (scales - 1)
    pixels and is passed together with `margin(scales)` rows below it and columns to its right, as
    far as the image has them.

    Args:
        images: grey levels 0..255, uint8 or float32 [N, H, W, C]: the part and its margin.
        height, width: size of the part without the margin, in pixels.
        scales: number of scales of MS-SSIM, 1 to 5; 1 is enough for SSIM.
        blur: `blur` or an equivalent function.
    """

    def __init__(
        self,
        images: Tensor,
        height: Size,
        width: Size,
        scales: int = len(SCALE_WEIGHTS),
        blur: Blur = blur,
    ):
        self._height, self._width, self._blur = height, width, blur
        self._scales = []
        for scale, pixels in enumerate(_pyramid(images, scales)):
            rows, columns = (
                _count_windows(size // 2**scale, side)
                for size, side in zip((height, width), ops.shape(pixels)[1:3])
            )
            planes = _planes(pixels, rows, columns)
            mean = blur(planes)
            square = ops.square(mean)
            variance = blur(ops.square(planes)) - square + _C2
            self._scales.append(_Scale(rows, columns, planes, mean, square + _C1, variance))

    def compare(self, reconstructions: Tensor) -> Sums:
        """Compares with reconstructions, which are grey levels [N, H, W, C] like the images."""
        structural = []
        error: Tensor = None
        for scale, pixels in zip(self._scales, _pyramid(reconstructions, len(self._scales))):
            planes = _planes(pixels, scale.rows, scale.columns)
            squares = ops.square(planes - scale.planes)
            if error is None:
                error = ops.sum(_sum(squares[:, : self._height, :, : self._width]), axis=1)
            structural.append(_structural_sums(scale, planes, squares, self._blur))
        return Sums(error, ops.stack(structural, 2))


class _Scale(NamedTuple):
    """One scale of the originals x.

    Attributes:
        rows, columns: number of windows along each axis.
        planes: x.
        mean: E[x], the Gaussian mean.
        squared_mean: E[x]^2 + c1.
        variance: E[x^2] - E[x]^2 + c2.
    """

    rows: Size
    columns: Size
    planes: Tensor
    mean: Tensor
    squared_mean: Tensor
    variance: Tensor


def _structural_sums(scale: _Scale, planes: Tensor, squares: Tensor, blur: Blur) -> Tensor:
    """Computes the sums of one scale, float32 [N, C, 2], from the planes y and (x - y)^2.

    With l = (E[x] - E[y])^2 / (E[x]^2 + E[y]^2 + c1) and c = var(x - y) / (var x + var y + c2),
    luminance is 1 - l and contrast is 1 - c. These are the fractions of Wang et al., with fewer
    operations and exactly 1 where x = y.
    """
    mean = blur(planes)
    square = ops.square(mean)
    offset = ops.square(mean - scale.mean)
    luminance_loss = offset / (square + scale.squared_mean)
    variance = blur(ops.square(planes)) - square
    contrast_loss = (blur(squares) - offset) / (variance + scale.variance)
    windows = _as_float(scale.rows) * _as_float(scale.columns)
    contrast = windows - _sum(contrast_loss)
    product = contrast - _sum(luminance_loss - luminance_loss * contrast_loss)
    # If no window begins in the part, `_planes` has padded it to one window, which does not count.
    return ops.where(windows > 0, ops.stack([product, contrast], -1), 0.0)


def ssim_from_sums(sums: Tensor, height: Size, width: Size) -> tuple[Tensor, Tensor]:
    """Computes SSIM and MS-SSIM, float32 [N], of whole images of `height` x `width` pixels from the
    structural sums of `Reference.compare`, [N, C, scales, 2]; MS-SSIM has as many scales."""
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
        is_last = scale == scales - 1
        next_side = WINDOW * 2 ** (scale + 1)
        next_fits = 0.0 if is_last else _as_float((height >= next_side) & (width >= next_side))
        term = next_fits * contrast + (1.0 - next_fits) * product
        log_sum += fits * weight * ops.log(ops.maximum(term, 1e-12))
        weight_sum += fits * weight
    fits = weight_sum > 0
    ms_ssim = ops.exp(log_sum / ops.where(fits, weight_sum, 1.0))
    return tuple(
        ops.mean(ops.where(fits, value, float("nan")), axis=1) for value in (ssim, ms_ssim)
    )


def fitting_scales(height: int, width: int) -> int:
    """Returns how many scales of MS-SSIM fit an image, at least 1: others do not change the result.

    >>> fitting_scales(64, 64), fitting_scales(176, 200)
    (3, 5)
    """
    return 1 + sum(min(height, width) >= WINDOW << i for i in range(1, len(SCALE_WEIGHTS)))


def margin(scales: int) -> int:
    """Returns how many pixels beyond a part of an image `Reference` needs."""
    return (WINDOW - 1) << (scales - 1)


def _count_windows(size: Size, side: Size) -> Size:
    """Returns how many windows begin within `size` pixels and fit into `side` pixels."""
    if _is_static(size, side):
        return max(min(size, side - WINDOW + 1), 0)
    return ops.maximum(ops.minimum(size, side - WINDOW + 1), 0)


def _as_float(value: Tensor) -> Tensor:
    return ops.cast(value, "float32")


def _pyramid(images: Tensor, scales: int) -> list[Tensor]:
    """Returns images [N, H, W, C] as float32 at each scale; each scale halves the sides."""
    pixels = [ops.cast(images, "float32")]
    for _ in range(scales - 1):
        pixels.append(_halve(pixels[-1]))
    return pixels


def _planes(pixels: Tensor, rows: Size, columns: Size) -> Tensor:
    """Crops and transposes [N, H, W, C] to [N, rows + 10, C, columns + 10], padded to one window.

    In this layout `blur` is a convolution along the rows, with columns as channels, and a matrix
    product along the columns. Backends are fast at both, and no transposition is needed between.
    """
    pixels = pixels[:, : rows + WINDOW - 1, : columns + WINDOW - 1]
    return ops.transpose(_pad(pixels, WINDOW), (0, 1, 3, 2))


def _sum(maps: Tensor) -> Tensor:
    """Sums [N, rows, C, columns] to [N, C]."""
    return ops.sum(ops.sum(maps, axis=3), axis=1)


def _halve(pixels: Tensor) -> Tensor:
    """Averages 2 x 2 pixels; a last odd row or column is dropped, but a side stays at least 1."""
    pixels = _pad(pixels, 2)
    return ops.average_pool(pixels, 2, 2, padding="valid", data_format="channels_last")


def _pad(pixels: Tensor, side: int) -> Tensor:
    """Pads [N, H, W, C] with zeros to sides of at least `side`."""
    height, width = ops.shape(pixels)[1:3]
    if _is_static(height, width) and min(height, width) >= side:
        return pixels
    missing = [(0, ops.maximum(side - size, 0)) for size in (height, width)]
    return ops.pad(pixels, ((0, 0), *missing, (0, 0)))


def _is_static(*sizes: Size) -> bool:
    """Whether sizes are known when the function is traced."""
    return all(isinstance(size, int) for size in sizes)
