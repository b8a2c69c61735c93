"""What kind of image one is: size, brightness and detail, in quarters of all images of a run."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image

QUARTERS: Final = {
    "size": ("1 smallest", "2", "3", "4 largest"),
    "brightness": ("1 darkest", "2", "3", "4 brightest"),
    "detail": ("1 smoothest", "2", "3", "4 finest"),
}
"""The names of the quarters of each measure, in the order of `measure`."""

_STRIP = 1 << 18
"""Pixels that are measured together: what is made of them stays in a processor's cache."""


def measure(pixels: np.ndarray) -> tuple[int, float, float]:
    """Measures an image; sums are over whole numbers, so that every machine gives the same bits.

    Args:
        pixels: uint8 [H, W, C], C 1 (grey) or 3 (RGB, whose grey is the luma of ITU-R 601).

    Returns:
        The number of pixels; the mean grey level, 0 to 255; the mean absolute difference of
        neighbouring grey levels, beside and below one another, 0 to 255 (0 for a single pixel).
    """
    height, width = pixels.shape[:2]
    rows = max(1, _STRIP // width)
    levels = steps = 0
    for top in range(0, height, rows):
        # A row that is only there as a neighbour comes last.
        grey = _grey(pixels[top : top + rows + 1])
        own = grey[:rows]
        levels += _total(own)
        steps += _distance(own[:, 1:], own[:, :-1]) + _distance(grey[1:], grey[:-1])
    pairs = height * (width - 1) + (height - 1) * width
    return height * width, levels / (height * width), steps / max(pairs, 1)


def cuts(measured: Sequence[Sequence[float]]) -> list[list[float]]:
    """The largest values of the first three quarters of each measure, increasing.

    Args:
        measured: what `measure` gave for each image, at least one.
    """
    values = np.quantile(measured, (0.25, 0.5, 0.75), axis=0, method="inverted_cdf")
    return [list(cut) for cut in values.T.tolist()]


def quarters(measured: Sequence[float], cut: Sequence[Sequence[float]]) -> tuple[str, ...]:
    """Names the quarters that an image lies in.

    Cuts are by value: equal values share a quarter, and a quarter may be empty.

    Args:
        measured: what `measure` gave for the image.
        cut: what `cuts` made of all images.
    """
    names = QUARTERS.values()
    return tuple(four[bisect_left(at, x)] for four, at, x in zip(names, cut, measured))


def _grey(pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[-1] == 1:
        return pixels[..., 0]
    return np.asarray(Image.fromarray(pixels).convert("L"))


def _distance(these: np.ndarray, those: np.ndarray) -> int:
    # Unsigned: the smaller one is taken from the larger one.
    return _total(np.maximum(these, those) - np.minimum(these, those))


def _total(levels: np.ndarray) -> int:
    """Sum of uint8: 256 of them fit in 16 bits, in which a processor adds fastest."""
    flat = levels.ravel()
    whole = flat.size - flat.size % 256
    columns = flat[:whole].reshape(256, -1).sum(axis=0, dtype=np.uint16)
    return int(columns.sum(dtype=np.int64)) + int(flat[whole:].sum(dtype=np.int64))
