"""Encoded images of any mode to plain grey or RGB."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_ae.datasets.headers import Header, read_header
from keras_ae.errors import DataError

MODES = {1: "L", 3: "RGB"}
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURN_MARKS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
"""One of them is in every PNG that says how it is to be turned."""
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I")


def decode(data: bytes, channels: int) -> np.ndarray:
    """Decodes an image, its first frame if there are several, the way it is meant to be seen.

    EXIF orientation is applied; alpha is dropped; of 16 bits the higher 8 are kept.

    Args:
        data: PNG, JPEG, BMP, GIF or WebP.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        uint8 array [H, W, channels].

    Raises:
        DataError: if the header is bad (see `read_header`) or the body cannot be decoded.
    """
    pixels = np.asarray(_open(data, channels))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def normalize(data: bytes, channels: int, *, proven: bool = False) -> tuple[bytes, Header]:
    """Encodes an image so that any decoder gives the pixels of `decode`.

    Args:
        data: PNG, JPEG, BMP, GIF or WebP.
        channels: 1 (grey) or 3 (RGB).
        proven: whether the caller decodes, or decoded, what is returned: the body of an image that
            is left unchanged is then not looked at.

    Returns:
        The bytes, unchanged where they are a plain PNG or JPEG of that many channels, else a PNG;
        and their header.

    Raises:
        DataError: as `decode` does.
    """
    header = read_header(data)
    with _reading():
        original = Image.open(io.BytesIO(data))
        plain = header.format in ("png", "jpeg") and original.mode == MODES[channels]
        if plain and not _turned(original, data) and not _sixteen_bit_rgb(data):
            if not proven:
                original.load()
            return data, header
    image = _open(data, channels)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue(), Header("png", image.height, image.width)


def _open(data: bytes, channels: int) -> Image.Image:
    read_header(data)
    with _reading():
        image: Image.Image = Image.open(io.BytesIO(data))
        image.load()
        turn = _orientation(image)
        image = image if turn is None else image.transpose(turn)
        if image.mode in _SIXTEEN_BIT:
            high = np.asarray(image).astype(np.int64) >> 8
            image = Image.fromarray(high.clip(0, 255).astype(np.uint8), "L")
        if image.mode in ("P", "PA", "RGBA", "LA"):
            image = image.convert("RGBA").convert("RGB")
        return image.convert(MODES[channels])


def _sixteen_bit_rgb(data: bytes) -> bool:
    return data.startswith(b"\x89PNG") and data[24] == 16


@contextmanager
def _reading() -> Iterator[None]:
    """Turns whatever Pillow raises on a bad image into a DataError."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise DataError("cannot be decoded: truncated or corrupt") from error
    except Exception as error:
        # Its plugins raise whatever their parsing runs into.
        raise DataError(f"cannot be decoded: {error}") from error


def _turned(image: Image.Image, data: bytes) -> bool:
    # Pillow decodes a PNG to look behind its pixels.
    if image.format == "PNG" and not any(mark in data for mark in _TURN_MARKS):
        return False
    return _orientation(image) is not None


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """How an image is to be turned; not at all if its EXIF cannot be read."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return None
