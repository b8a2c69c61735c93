"""The pixels of an image as a model sees them, as the client decodes them."""

import numpy as np
from PIL import Image

from keras_ae.errors import DataError, one_line

from . import deep
from .formats import detect_format, open_checked
from .images import PNG_SIGNATURE
from .prepare import flatten

RANGES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))
"""Levels of white that the training pipeline finds in 16-bit images."""
_TOLERANCE = 1e-3


def read_original(
    data: bytes, reconstruction: np.ndarray, mse: float, white: float | None = None
) -> tuple[np.ndarray, int | None]:
    """Decodes an image as the model that reconstructed it did.

    A server does not tell which 16-bit level its model takes for white: TensorFlow Serving has no
    request for `assets.extra/keras_ae.json`, and its metadata are names, types and shapes. It is
    the level with which the error of the reconstruction is the one that the server computed.

    Args:
        data: what was sent: PNG, JPEG, BMP, WebP or GIF.
        reconstruction: uint8 [H, W, C] with C 1 or 3.
        mse: mean squared error that the server returned.
        white: a level to try beside `RANGES`: that of `--white` of the training run.

    Returns:
        uint8 of that shape; the level of white of a 16-bit image whose error agrees with `mse`, 0
        for an image with 8 bits, and None if none agrees.

    Raises:
        DataError: if the image cannot be decoded.
    """
    channels = reconstruction.shape[-1]
    if not is_deep(data):
        return read_pixels(data, channels), 0
    levels = (*RANGES, max(1, round(white))) if white else RANGES
    originals = {level: read_pixels(data, channels, level) for level in levels}

    def deviation(level: int) -> float:
        error = (originals[level].astype(np.float64) - reconstruction) / 255
        return float(abs(np.mean(np.square(error)) - mse))

    best = min(originals, key=deviation)
    agrees = deviation(best) <= _TOLERANCE * max(mse, 1e-6)
    return originals[best], best if agrees else None


def read_pixels(data: bytes, channels: int, white: int = deep.FULL_RANGE) -> np.ndarray:
    """Decodes an image: alpha over white, 16-bit levels scaled, orientation applied.

    Args:
        data: an image file.
        channels: 1 or 3.
        white: the 16-bit level that becomes 255.

    Returns:
        uint8 [H, W, channels].

    Raises:
        DataError: if the image cannot be decoded.
    """
    image_format = detect_format(data)
    if image_format is None:
        raise DataError("cannot be decoded: not an image of a known format")
    try:
        if is_deep(data):
            image = Image.fromarray(_scale(*deep.read_png16(data), white))
        else:
            image = flatten(open_checked(data, image_format), data)
        pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    except DataError:
        raise
    except Exception as error:
        # The plugins of Pillow raise undocumented exceptions: ValueError, SyntaxError and others.
        raise DataError(f"cannot be decoded: {one_line(error)}") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def is_deep(data: bytes) -> bool:
    """Whether an image is a PNG with 16 bits, whose white only the model knows."""
    return data.startswith(PNG_SIGNATURE) and data[deep.PNG_DEPTH : deep.PNG_DEPTH + 1] == b"\x10"


def _scale(pixels: np.ndarray, transparency: object, white: int) -> np.ndarray:
    """16-bit [H, W, C] over white, uint8 [H, W, 3]."""
    has_alpha = pixels.shape[-1] in (2, 4)
    colours = pixels[..., :-1] if has_alpha else pixels
    scaled = _table(white)[colours]
    if has_alpha:
        alpha = _table(deep.FULL_RANGE)[pixels[..., -1:]]
    else:
        hidden = np.array(-1 if transparency is None else transparency)
        alpha = np.where((colours == hidden).all(-1, keepdims=True), 0, 255).astype(np.uint8)
    rgba = np.concatenate([np.broadcast_to(scaled, (*scaled.shape[:2], 3)), alpha], -1)
    white_image = Image.new("RGBA", (rgba.shape[1], rgba.shape[0]), "white")
    return np.asarray(Image.alpha_composite(white_image, Image.fromarray(rgba)))[..., :3]


def _table(white: int) -> np.ndarray:
    levels = np.minimum(np.arange(deep.FULL_RANGE + 1), white)
    return ((levels * 255 + white // 2) // white).astype(np.uint8)
