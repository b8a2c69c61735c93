"""Finds the scale of all steps at which a file has a given size, or an image a given quality."""

import functools
from collections.abc import Callable

import numpy as np

from keras_ae.codec.file import compress, quantize
from keras_ae.codec.header import Header
from keras_ae.errors import ConfigurationError

FINEST, COARSEST = -192, 576
"""The scales that are looked at: steps of 1/8 to 512 grey levels."""


def compress_to_size(latents: np.ndarray, header: Header, max_bytes: int) -> bytes:
    """Makes the file of best quality that has at most `max_bytes` bytes.

    Args:
        latents, header: as for `keras_ae.codec.file.compress`.

    Raises:
        ConfigurationError: if even the coarsest steps need more; the message says how much.
    """
    file = functools.cache(lambda scale: compress(latents, header, scale))
    if (least := len(file(COARSEST))) > max_bytes:
        raise ConfigurationError(
            f"this image needs at least {least} bytes, and {max_bytes} are allowed: allow more"
        )
    return file(_first(lambda scale: len(file(scale)) <= max_bytes))


def compress_to_psnr(
    latents: np.ndarray, header: Header, psnr: float, measure: Callable[[np.ndarray], float]
) -> bytes:
    """Makes the smallest file whose image has at least a PSNR.

    Args:
        latents, header: as for `keras_ae.codec.file.compress`.
        psnr: in dB.
        measure: decodes latents, float32 [h, w, c], and returns the PSNR of the image in dB.

    Raises:
        ConfigurationError: if not even the finest steps reach it; the message says what they reach.
    """
    # Not the files themselves: the latents of a large image take hundreds of megabytes.
    reached = functools.cache(lambda scale: measure(quantize(latents, header, scale)[1]))
    if reached(FINEST) < psnr:
        raise ConfigurationError(
            f"this model reaches {reached(COARSEST):.2f} to {reached(FINEST):.2f} dB on this "
            f"image, not {psnr:.2f} dB"
        )
    if reached(COARSEST) >= psnr:
        return compress(latents, header, COARSEST)
    return compress(latents, header, _first(lambda scale: reached(scale) < psnr) - 1)


def _first(holds: Callable[[int], bool]) -> int:
    """The scale by bisection from which on a condition holds that the coarsest steps meet."""
    low, high = FINEST, COARSEST
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high
