"""Size, brightness and detail of an image, and their quartiles among all images of a run."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image

QUARTILES: Final = {
    "size": ("1 smallest", "2", "3", "4 largest"),
    "brightness": ("1 darkest", "2", "3", "4 brightest"),
    "detail": ("1 smoothest", "2", "3", "4 finest"),
}
"""The names of the quartiles of each measure, in the order of `measure`."""

_STRIP_PIXELS = 1 << 18
"""Pixels that are measured together, so that intermediate arrays stay in a processor's cache."""


def measure(pixels: np.ndarray, grey: np.ndarray | None = None) -> tuple[int, float, float]:
    """Measures an image. The sums are over integers, so that every machine returns the same bits.

    Args:
        pixels: uint8 [H, W, C], C 1 (grey) or 3 (RGB, whose grey is the luma of ITU-R 601).
        grey: their grey levels, uint8 [H, W], if the caller has them.

    Returns:
        The number of pixels; the mean grey level, 0 to 255; the mean absolute difference of
        horizontally and vertically neighbouring grey levels, 0 to 255 (0 for a single pixel).
    """
    height, width = pixels.shape[:2]
    rows = max(1, _STRIP_PIXELS // width)
    levels = differences = 0
    for top in range(0, height, rows):
        # The last row is only the lower neighbour of the row above it.
        bottom = top + rows + 1
        strip = _grey(pixels[top:bottom]) if grey is None else grey[top:bottom]
        own = strip[:rows]
        levels += _total(own)
        differences += _total_difference(own[:, 1:], own[:, :-1])
        differences += _total_difference(strip[1:], strip[:-1])
    pairs = height * (width - 1) + (height - 1) * width
    return height * width, levels / (height * width), differences / max(pairs, 1)


def compute_bounds(measures: Sequence[Sequence[float]]) -> list[list[float]]:
    """The upper bounds of the first three quartiles of each measure.

    Args:
        measures: the results of `measure`, for at least one image.
    """
    bounds = np.quantile(measures, (0.25, 0.5, 0.75), axis=0, method="inverted_cdf")
    return [list(row) for row in bounds.T.tolist()]


def quartile_names(measures: Sequence[float], bounds: Sequence[Sequence[float]]) -> tuple[str, ...]:
    """The names of the quartiles that contain an image, one per measure.

    Equal values are in the same quartile, so that a quartile may be empty.

    Args:
        measures: the results of `measure` for the image.
        bounds: the results of `compute_bounds` for all images.
    """
    return tuple(
        names[bisect_left(upper_bounds, value)]
        for names, upper_bounds, value in zip(QUARTILES.values(), bounds, measures)
    )


def _grey(pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[-1] == 1:
        return pixels[..., 0]
    return np.asarray(Image.fromarray(pixels).convert("L"))


def _total_difference(a: np.ndarray, b: np.ndarray) -> int:
    # Unsigned levels would wrap around in a plain difference.
    return _total(np.maximum(a, b) - np.minimum(a, b))


def _total(levels: np.ndarray) -> int:
    """Sum of uint8 levels. Sums of 256 levels fit in 16 bits, which a processor adds fastest."""
    flat = levels.ravel()
    whole = flat.size - flat.size % 256
    columns = flat[:whole].reshape(256, -1).sum(axis=0, dtype=np.uint16)
    return int(columns.sum(dtype=np.int64)) + int(flat[whole:].sum(dtype=np.int64))
