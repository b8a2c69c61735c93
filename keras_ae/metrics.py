"""Reconstruction quality per image: MSE, PSNR, SSIM and MS-SSIM, on any Keras backend."""

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
"""The constants of Wang et al. 2004, for pixels scaled to 0..1."""

Size: TypeAlias = int | Tensor
"""Pixels of a side: an integer, or a tensor where it is known at run time only."""
Blur: TypeAlias = Callable[[Tensor], Tensor]

_C1, _C2 = C1 * 255.0**2, C2 * 255.0**2
_BLOCK = 32
_LONGEST = _BLOCK + WINDOW - 1
_KERNEL = np.exp(-np.square(np.arange(WINDOW) - WINDOW // 2) / (2 * SIGMA**2))
_KERNEL = (_KERNEL / _KERNEL.sum()).astype("float32")
# Row i, column j: the weight of pixel i in the mean of the window that begins at j.
_BAND = np.array([np.pad(_KERNEL, (i, _BLOCK - 1 - i)) for i in range(_BLOCK)]).T


def mse(images: Tensor, others: Tensor) -> Tensor:
    """Mean squared difference of pixels scaled to 0..1.

    Args:
        images, others: grey levels 0..255, uint8 or float32 tensors [N, H, W, C].

    Returns:
        float32 [N].

    >>> import numpy as np
    >>> black, white = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)
    >>> np.asarray(mse(black, white)).tolist()
    [1.0]
    """
    difference = ops.cast(images, "float32") - ops.cast(others, "float32")
    return ops.mean(ops.square(difference), axis=(1, 2, 3)) / 255.0**2


def psnr_from_mse(values: Tensor) -> Tensor:
    """10 log10(1 / MSE) in dB, at most 100: an exact reconstruction counts as 100.

    Args:
        values: float32 [N], the mean squared error of pixels scaled to 0..1.

    >>> import numpy as np
    >>> np.asarray(psnr_from_mse(np.float32([0.1, 0.01, 0.0]))).round(3).tolist()
    [10.0, 20.0, 100.0]
    """
    least = 10.0 ** (-MAX_PSNR / 10.0)
    decibels = -10.0 / math.log(10.0) * ops.log(ops.maximum(values, least))
    return ops.where(values <= least, MAX_PSNR, decibels)


def structural(images: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM and MS-SSIM of each pair, averaged over channels.

    SSIM is that of Wang et al. 2004 (Gaussian window of 11, sigma 1.5) over the positions where
    the window fits. MS-SSIM is that of Wang et al. 2003 with as many of its five scales as fit the
    window, their weights scaled to sum to 1, and negative terms counted as 0.

    Args:
        images, others: uint8 tensors [N, H, W, C]; sizes may be known at run time only.

    Returns:
        float32 [N] each, NaN where a side is shorter than the window.

    >>> import numpy as np
    >>> image = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), np.uint8)
    >>> ssim, ms_ssim = structural(image, image)
    >>> np.asarray(ssim).tolist(), np.asarray(ms_ssim).round(6).tolist()
    ([1.0], [1.0])
    """
    height, width = ops.shape(images)[1:3]
    sums = Reference(images, height, width).sums(others)
    return structural_from_sums(sums.structural, height, width)


def blur(planes: Tensor) -> Tensor:
    """Gaussian means of [N, height, C, width] at the positions where the window fits."""
    width = ops.shape(planes)[3]
    kernel = ops.tile(ops.reshape(_KERNEL, (WINDOW, 1, 1, 1)), (1, 1, width, 1))
    rows = ops.depthwise_conv(planes, kernel, padding="valid", data_format="channels_last")
    count, height, channels, width = ops.shape(rows)
    lines = ops.reshape(rows, (-1, width))
    if _is_known(width):
        lines = _short(lines, width) if width <= _LONGEST else _long(lines, width)
    else:
        lines = ops.cond(
            width <= _LONGEST, lambda: _short(lines, width), lambda: _long(lines, width)
        )
    return ops.reshape(lines, (count, height, channels, width - WINDOW + 1))


def _short(lines: Tensor, width: Size) -> Tensor:
    """Gaussian means along lines that are no longer than the matrix."""
    return ops.matmul(lines, ops.convert_to_tensor(_BAND)[:width, : width - WINDOW + 1])


def _long(lines: Tensor, width: Size) -> Tensor:
    """The same of lines of any length, in blocks that each see the beginning of the next one."""
    count = -(-(width - WINDOW + 1) // _BLOCK)
    lines = ops.pad(lines, ((0, 0), (0, (count + 1) * _BLOCK - width)))
    blocks = ops.reshape(lines, (-1, count + 1, _BLOCK))
    blocks = ops.concatenate([blocks[:, :-1], blocks[:, 1:, : WINDOW - 1]], axis=2)
    means = ops.matmul(ops.reshape(blocks, (-1, _LONGEST)), ops.convert_to_tensor(_BAND))
    return ops.reshape(means, (-1, count * _BLOCK))[:, : width - WINDOW + 1]


class Sums(NamedTuple):
    """What a part of some images adds to their MSE, SSIM and MS-SSIM.

    Attributes:
        error: float32 [N], the sum of squared differences of grey levels.
        structural: float32 [N, C, scales, 2], sums over the windows of luminance times contrast,
            and of contrast.
    """

    error: Tensor
    structural: Tensor


class Reference:
    """The original's side of a comparison, computed once for any number of reconstructions.

    It is of the pixels in one part of the images and of the windows that begin there. The sums of
    the parts of a large image add up to its own, if each part begins at a multiple of
    2 ** (scales - 1) pixels and is given with the `margin(scales)` rows below it and columns to its
    right, or with those that there are.

    Args:
        images: grey levels 0..255, uint8 or float32 [N, H, W, C]: the part and its margin.
        height, width: of the part without the margin, in pixels.
        scales: of MS-SSIM, 1 to 5; 1 is enough for SSIM.
        blur: `blur`, or what computes the same.
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
        self._sides = []
        for scale, pixels in enumerate(_pyramid(images, scales)):
            rows, columns = (
                _positions(size // 2**scale, side)
                for size, side in zip((height, width), ops.shape(pixels)[1:3])
            )
            planes = _planes(pixels, rows, columns)
            mean = blur(planes)
            square = ops.square(mean)
            spread = blur(ops.square(planes)) - square + _C2
            self._sides.append(_Side(rows, columns, planes, mean, square + _C1, spread))

    def sums(self, others: Tensor) -> Sums:
        """Compares with reconstructions: grey levels like the images, [N, H, W, C]."""
        structural = []
        error: Tensor = None
        for side, pixels in zip(self._sides, _pyramid(others, len(self._sides))):
            planes = _planes(pixels, side.rows, side.columns)
            squares = ops.square(planes - side.planes)
            if error is None:
                error = ops.sum(_sum(squares[:, : self._height, :, : self._width]), axis=1)
            structural.append(_structural_sums(side, planes, squares, self._blur))
        return Sums(error, ops.stack(structural, 2))


class _Side(NamedTuple):
    """One scale of the originals x: windows along each axis, and maps.

    Attributes:
        planes: x.
        mean: E[x], the Gaussian mean.
        energy: E[x]^2 + c1.
        spread: E[x^2] - E[x]^2 + c2.
    """

    rows: Size
    columns: Size
    planes: Tensor
    mean: Tensor
    energy: Tensor
    spread: Tensor


def _structural_sums(side: _Side, planes: Tensor, squares: Tensor, blur: Blur) -> Tensor:
    """float32 [N, C, 2] of one scale, of planes y and (x - y)^2.

    Luminance is 1 - (E[x] - E[y])^2 / (E[x]^2 + E[y]^2 + c1), and contrast likewise one less the
    share that the variance of x - y has in that of both: the same fractions as in Wang et al., with
    fewer operations, and exact where x = y.
    """
    mean = blur(planes)
    square = ops.square(mean)
    offset = ops.square(mean - side.mean)
    away = offset / (square + side.energy)
    changed = (blur(squares) - offset) / (blur(ops.square(planes)) - square + side.spread)
    windows = _as_float(side.rows) * _as_float(side.columns)
    contrast = windows - _sum(changed)
    product = contrast - _sum(away - away * changed)
    # Where no window begins in the part, there is one of padding.
    return ops.where(windows > 0, ops.stack([product, contrast], -1), 0.0)


def structural_from_sums(sums: Tensor, height: Size, width: Size) -> tuple[Tensor, Tensor]:
    """SSIM and MS-SSIM of whole images from the sums of `Reference`.

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


def fitting_scales(height: int, width: int) -> int:
    """Scales of MS-SSIM that fit, at least 1: with these alone it comes out the same, sooner.

    >>> fitting_scales(64, 64), fitting_scales(176, 200)
    (3, 5)
    """
    scales = 1
    while scales < len(SCALE_WEIGHTS) and min(height, width) >= WINDOW * 2**scales:
        scales += 1
    return scales


def margin(scales: int) -> int:
    """Pixels beyond a part of an image that `Reference` looks at."""
    return (WINDOW - 1) << (scales - 1)


def _positions(size: Size, side: Size) -> Size:
    """Windows that begin within `size` pixels and fit into `side`."""
    if _is_known(size, side):
        return max(min(size, side - WINDOW + 1), 0)
    return ops.maximum(ops.minimum(size, side - WINDOW + 1), 0)


def _as_float(value: Tensor) -> Tensor:
    return ops.cast(value, "float32")


def _pyramid(images: Tensor, scales: int) -> list[Tensor]:
    """Images [N, H, W, C] as float32, and their halves."""
    pixels = [ops.cast(images, "float32")]
    for _ in range(scales - 1):
        pixels.append(_halve(pixels[-1]))
    return pixels


def _planes(pixels: Tensor, rows: Size, columns: Size) -> Tensor:
    """[N, H, W, C] -> [N, rows + 10, C, columns + 10], at least as large as the window.

    So rows are blurred by a convolution with columns as channels, and columns by a product with a
    matrix: what backends do fast, with no transposition between.
    """
    pixels = pixels[:, : rows + WINDOW - 1, : columns + WINDOW - 1]
    height, width = ops.shape(pixels)[1:3]
    if not (_is_known(height, width) and min(height, width) >= WINDOW):
        missing = [(0, ops.maximum(WINDOW - size, 0)) for size in (height, width)]
        pixels = ops.pad(pixels, ((0, 0), *missing, (0, 0)))
    return ops.transpose(pixels, (0, 1, 3, 2))


def _sum(maps: Tensor) -> Tensor:
    """[N, rows, C, columns] -> [N, C]."""
    return ops.sum(ops.sum(maps, axis=3), axis=1)


def _halve(pixels: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; a last odd row or column is left out, but a side stays at least 1."""
    height, width = ops.shape(pixels)[1:3]
    if not (_is_known(height, width) and min(height, width) >= 2):
        missing = [(0, ops.maximum(2 - size, 0)) for size in (height, width)]
        pixels = ops.pad(pixels, ((0, 0), *missing, (0, 0)))
    return ops.average_pool(pixels, 2, 2, padding="valid", data_format="channels_last")


def _is_known(*sizes: Size) -> bool:
    return all(isinstance(size, int) for size in sizes)
