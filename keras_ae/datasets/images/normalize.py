"""Encoded images of any mode to plain grey or RGB."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from keras_ae.contract import MAX_PIXELS
from keras_ae.datasets.images.headers import Header, read_header
from keras_ae.datasets.images.structure import check_exif, check_structure
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
_MOST_TOLD = 200
"""Characters of what Pillow tells."""
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
    pixels = np.asarray(_pixels(data, _checked(data), channels))
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
    header = _checked(data)
    with _reading():
        original = _identified(data, header)
        plain = header.format in ("png", "jpeg") and original.mode == MODES[channels]
        if plain and not _turned(original, data) and not _sixteen_bit_rgb(data):
            if not proven:
                original.load()
            return data, header
    image = _pixels(data, header, channels)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue(), Header("png", image.height, image.width)


def _checked(data: bytes) -> Header:
    header = read_header(data)
    check_structure(data, header)
    return header


def _identified(data: bytes, header: Header) -> Image.Image:
    """An image that Pillow has not decoded yet; no other of its many formats is tried."""
    image: Image.Image = Image.open(io.BytesIO(data), formats=[header.format])
    # A frame of a GIF may be larger than its header says.
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{image.width}x{image.height} is more than the limit of {MAX_PIXELS:,} pixels"
        )
    return image


def _pixels(data: bytes, header: Header, channels: int) -> Image.Image:
    with _reading():
        image = _identified(data, header)
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
    except DataError:
        raise
    except Exception as error:
        # Its plugins raise whatever their parsing runs into.
        told = " ".join(str(error).split())[:_MOST_TOLD] or type(error).__name__
        raise DataError(f"cannot be decoded: {told}") from error


def _turned(image: Image.Image, data: bytes) -> bool:
    # Pillow decodes a PNG to look behind its pixels.
    if image.format == "PNG" and not any(mark in data for mark in _TURN_MARKS):
        return False
    return _orientation(image) is not None


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """How an image is to be turned; not at all if its EXIF cannot be read."""
    try:
        check_exif(_exif(image))
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except DataError:
        raise
    except Exception:
        return None


def _exif(image: Image.Image) -> bytes:
    """The block that Pillow reads; of a PNG once it is decoded."""
    if isinstance(image, PngImageFile):
        image.load()
    block = image.info.get("exif")
    if block is None and "Raw profile type exif" in image.info:
        # As ImageMagick writes it: three lines, then hexadecimal digits.
        block = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    return block or b""
