"""Levels beyond 8 bits, alpha and luma: integer formulas that NumPy and the graph share."""

from typing import Any, Final, NamedTuple

import numpy as np

from keras_ae.errors import DataError

BITS: Final = (8, 10, 12, 14, 16)
"""Ranges that 16-bit files may use."""
FULL_RANGE: Final = 2 ** BITS[-1] - 1
"""White of 16-bit files that use all levels."""


class White(NamedTuple):
    """The levels that become 255 in images with more than 8 bits.

    Attributes:
        sixteen_bits: of 16-bit images; None for that of the smallest range of `BITS` that contains
            the levels of the image itself.
        numbers: of floats and of 32-bit integers; None if only floats from 0 to 1 are allowed.
    """

    sixteen_bits: float | None = FULL_RANGE
    numbers: float | None = None


DEFAULT_WHITE: Final = White()
OWN_RANGE: Final = White(None)
LUMA: Final = (19595, 38470, 7471)
"""Weights of red, green and blue in grey (ITU-R 601-2), in 1/65536; those of Pillow."""
LUMA_ROUNDING: Final = 0x8000


def smallest_range(largest: int) -> int:
    """White of the smallest range of `BITS` that contains a level.

    >>> smallest_range(3000)
    4095
    """
    return next(2**bits - 1 for bits in BITS if largest < 2**bits)


def describe_range(white: int) -> str:
    """Describes the range of 16-bit files with this level of white.

    >>> describe_range(4095), describe_range(3000)
    ('12 bits in 16-bit files', '0 to 3000 in 16-bit files')
    """
    bits = next((bits for bits in BITS if white == 2**bits - 1), None)
    return f"{bits} bits in 16-bit files" if bits else f"0 to {white} in 16-bit files"


def whole(white: float) -> int:
    """A level of white as one of 16-bit images: a whole number, at least 1."""
    return max(1, round(white))


def scale_table(white: int) -> np.ndarray:
    """The 8-bit level of each 16-bit level, uint8 [65536]: scaled, rounded and clipped.

    Args:
        white: the level that becomes 255, 1 to 65535.
    """
    levels = np.minimum(np.arange(FULL_RANGE + 1), white)
    return ((levels * 255 + white // 2) // white).astype(np.uint8)


def scale_numbers(pixels: np.ndarray, white: float) -> np.ndarray:
    """Scales floats, or 32-bit integers, to uint8: rounded and clipped, NaN becomes 0.

    Args:
        pixels: any shape.
        white: the value that becomes 255.
    """
    scaled = np.nan_to_num(pixels.astype(np.float64) * (255 / white), posinf=255, neginf=0)
    return np.floor(scaled.clip(0, 255) + 0.5).astype(np.uint8)


def check_numbers(pixels: np.ndarray) -> None:
    """Rejects floats outside of 0..1, and 32-bit integers, whose white is not known.

    Raises:
        DataError: with the range that was found.
    """
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind == "f":
        if low >= 0 and high <= 1:
            return
        found = f"floating-point levels from {low:g} to {high:g}, expected 0 to 1"
    else:
        found = f"{8 * pixels.itemsize}-bit integer levels from {low} to {high}"
    raise DataError(f"{found}: give the level of white with --white LEVEL")


def over_white(colours: Any, alpha: Any, right_shift: Any = np.right_shift) -> Any:
    """Composites over white, rounded to the nearest level: equal to Pillow's `alpha_composite`.

    Args:
        colours: uint16 array or tensor [..., C] of levels 0..255.
        alpha: uint16 [..., 1], 0 (transparent) to 255.
        right_shift: the function for tensors of that type.

    Returns:
        uint16 [..., C] of levels 0..255.
    """
    # An exact division by 255, whose terms are below 65536.
    product = colours * alpha + 255 * (255 - alpha) + 128
    return right_shift(product + right_shift(product, 8), 8)
