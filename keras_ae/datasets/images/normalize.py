"""Conversion of encoded images of any mode to plain grey or RGB."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_ae.contract import MAX_PIXELS
from keras_ae.datasets.images.deep import PNG_DEPTH, DeepPixels, read_deep
from keras_ae.datasets.images.headers import PNG_MAGIC, Header, read_header
from keras_ae.datasets.images.levels import DEFAULT_WHITE, White, check_numbers, whole
from keras_ae.datasets.images.netpbm_pixels import decode_netpbm
from keras_ae.datasets.images.orientation import (
    TRANSPOSES,
    UPRIGHT,
    open_unread,
    read_orientation,
)
from keras_ae.datasets.images.profiles import is_wide
from keras_ae.datasets.images.structure import check_structure
from keras_ae.datasets.images.tiff import has_other_pages
from keras_ae.errors import DataError, one_line

MODES = {1: "L", 3: "RGB"}
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")

PAGES, PROFILE = "first page", "colour profile"
"""Notes on an image: it has other pages, which are not read; its profile is ignored."""


class Normalized(NamedTuple):
    """An image that any decoder turns into the same pixels.

    Attributes:
        data: a PNG or JPEG; empty if it was not to be encoded.
        header: its header.
        white: level of white by which a 16-bit image was scaled; 0 for an image with 8 bits.
        notes: what was noticed, such as `PAGES`.
        pixels: uint8 [H, W, C] instead of the data, if these were not encoded.
    """

    data: bytes
    header: Header
    white: int = 0
    notes: tuple[str, ...] = ()
    pixels: np.ndarray | None = None


def decode(data: bytes, channels: int, *, white: White = DEFAULT_WHITE) -> np.ndarray:
    """Decodes an image, or the first frame of an animation.

    The EXIF orientation is applied, and alpha is composited over white.

    Args:
        data: an image of a format of `keras_ae.datasets.images.headers.Header`.
        channels: 1 (grey) or 3 (RGB).
        white: the levels that become 255 in images with more than 8 bits.

    Returns:
        uint8 array [H, W, channels].

    Raises:
        DataError: if the header is invalid (see `read_header`) or the image cannot be decoded.
    """
    return _to_array(_pixels(data, _check_header(data), channels, white)[0])


def decode_deep(data: bytes) -> DeepPixels | None:
    """Decodes an image with more than 8 bits per sample to all its levels; None for any other.

    Raises:
        DataError: see `decode`.
    """
    header = _check_header(data)
    with _pillow_errors():
        return read_deep(data, header)


def normalize(
    data: bytes, channels: int, *, white: White = DEFAULT_WHITE, check_body: bool = True
) -> tuple[bytes, Header]:
    """The first two attributes of what `examine` returns."""
    data, header, *_ = examine(data, channels, white=white, check_body=check_body)
    return data, header


def examine(
    data: bytes,
    channels: int,
    *,
    white: White = DEFAULT_WHITE,
    check_body: bool = True,
    encode: bool = True,
) -> Normalized:
    """Converts an image so that any decoder returns the pixels of `decode`.

    Args:
        data: an image of a format of `keras_ae.datasets.images.headers.Header`.
        channels: 1 (grey) or 3 (RGB).
        white: the levels that become 255 in images with more than 8 bits.
        check_body: whether to decode also an image that is returned unchanged; False saves time if
            the caller has decoded it, or is about to.
        encode: whether to encode an image that is changed; False saves most of its time if the
            caller needs only the pixels.

    Returns:
        The unchanged data of a plain PNG or JPEG with that many channels, else a PNG or the pixels.

    Raises:
        DataError: if the header is invalid or the image cannot be decoded.
    """
    header = _check_header(data)
    notes = [PAGES] if header.format == "tiff" and has_other_pages(data) else []
    with _pillow_errors():
        if header.format != "ppm":
            original = _open(data, header)
            notes += [PROFILE] if is_wide(original.info.get("icc_profile")) else []
            if _is_plain(original, data, header, channels):
                if check_body:
                    original.load()
                return Normalized(data, header, 0, tuple(notes))
    image, own_white = _pixels(data, header, channels, white)
    stored = Header("png", image.height, image.width)
    if not encode:
        return Normalized(b"", stored, own_white, tuple(notes), _to_array(image))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return Normalized(buffer.getvalue(), stored, own_white, tuple(notes))


def _to_array(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _is_plain(image: Image.Image, data: bytes, header: Header, channels: int) -> bool:
    """Whether any decoder, and any version of it, returns the same pixels of an opened image."""
    return (
        header.format in ("png", "jpeg")
        and image.mode == MODES[channels]
        and "transparency" not in image.info
        and not (header.format == "png" and data[PNG_DEPTH] == 16)
        and read_orientation(image, data) == UPRIGHT
    )


def _check_header(data: bytes) -> Header:
    header = read_header(data)
    check_structure(data, header)
    return header


def _open(data: bytes, header: Header) -> Image.Image:
    """Opens an image in Pillow without decoding it, as the format that its header declares."""
    if header.format == "ppm":
        pixels = decode_netpbm(data)
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if header.format == "heic":
        image = _open_heic(data)
    else:
        image = open_unread(data, header.format)
    # The first frame of a GIF may be larger than its header declares.
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{image.width}x{image.height} is more than the limit of {MAX_PIXELS:,} pixels"
        )
    return image


def _open_heic(data: bytes) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise DataError("HEIC: install pillow-heif") from error
    image: Image.Image = HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call]
    return image


def _pixels(data: bytes, header: Header, channels: int, white: White) -> tuple[Image.Image, int]:
    """The pixels as an image of mode L or RGB, and the level of white of a 16-bit image."""
    with _pillow_errors():
        deep = read_deep(data, header)
        if deep is None:
            image, used_white = _open(data, header), 0
            image.load()
            transpose = TRANSPOSES.get(read_orientation(image, data))
            image = image if transpose is None else image.transpose(transpose)
        else:
            image, used_white = _scale(deep, white)
        if image.mode in _ALPHA_MODES or "transparency" in image.info:
            image = _with_alpha(image, data)
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        if image.mode in ("P", "RGBA"):
            image = image.convert("RGB")
        return image.convert(MODES[channels]), used_white


def _with_alpha(image: Image.Image, data: bytes) -> Image.Image:
    """Converts an image with transparency to RGBA."""
    if data.startswith(PNG_MAGIC) and image.mode == "L" and data[PNG_DEPTH] in (2, 4):
        # Pillow scales the levels to 8 bits, but not the transparent level.
        image.info["transparency"] *= 255 // (2 ** data[PNG_DEPTH] - 1)
    return image.convert("RGBA")


def _scale(deep: DeepPixels, white: White) -> tuple[Image.Image, int]:
    if deep.is_sixteen_bit:
        level = deep.own_range() if white.sixteen_bits is None else white.sixteen_bits
        return deep.scale(level), whole(level)
    if white.numbers is None:
        check_numbers(deep.colours)
    return deep.scale(white.numbers or 1), 0


@contextmanager
def _pillow_errors() -> Iterator[None]:
    """Converts any exception that Pillow raises on a bad image to a DataError."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise DataError("cannot be decoded: truncated or corrupt") from error
    except DataError:
        raise
    except Exception as error:
        # Its plugins raise undocumented exceptions: ValueError, SyntaxError and others.
        raise DataError(f"cannot be decoded: {one_line(error)}") from error
