"""Conversion of encoded images of any mode to plain grey or RGB."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from keras_ae.contract import MAX_PIXELS
from keras_ae.datasets.images.headers import Header, read_header
from keras_ae.datasets.images.netpbm import decode_netpbm
from keras_ae.datasets.images.structure import check_exif, check_structure
from keras_ae.errors import DataError, one_line

MODES = {1: "L", 3: "RGB"}
_ORIENTATION = 0x0112
_TRANSPOSES = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_MARKERS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Every PNG with an EXIF orientation contains one of these."""
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I")


def decode(data: bytes, channels: int) -> np.ndarray:
    """Decodes an image, or the first frame of an animation.

    The EXIF orientation is applied, alpha is dropped, and 16-bit levels keep their upper 8 bits.

    Args:
        data: an image of a format of `keras_ae.datasets.images.headers.Header`.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        uint8 array [H, W, channels].

    Raises:
        DataError: if the header is invalid (see `read_header`) or the image cannot be decoded.
    """
    pixels = np.asarray(_pixels(data, _check_header(data), channels))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def normalize(data: bytes, channels: int, *, check_body: bool = True) -> tuple[bytes, Header]:
    """Converts an image so that any decoder returns the pixels of `decode`.

    Args:
        data: an image of a format of `keras_ae.datasets.images.headers.Header`.
        channels: 1 (grey) or 3 (RGB).
        check_body: whether to decode also an image that is returned unchanged; False saves time if
            the caller has decoded it, or is about to.

    Returns:
        The encoded image and its header: the unchanged data of a plain PNG or JPEG with that many
        channels, else a PNG.

    Raises:
        DataError: if the header is invalid or the image cannot be decoded.
    """
    header = _check_header(data)
    with _pillow_errors():
        original = _open(data, header)
        plain = header.format in ("png", "jpeg") and original.mode == MODES[channels]
        if plain and not _needs_transpose(original, data) and not _sixteen_bit_rgb(data):
            if check_body:
                original.load()
            return data, header
    image = _pixels(data, header, channels)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue(), Header("png", image.height, image.width)


def _check_header(data: bytes) -> Header:
    header = read_header(data)
    check_structure(data, header)
    return header


def _open(data: bytes, header: Header) -> Image.Image:
    """Opens an image in Pillow without decoding it, as the format that its header declares."""
    if header.format == "ppm":
        return Image.fromarray(_squeeze(decode_netpbm(data)))
    if header.format == "heic":
        image = _open_heic(data)
    else:
        image = Image.open(io.BytesIO(data), formats=[header.format])
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


def _squeeze(pixels: np.ndarray) -> np.ndarray:
    """Pixels in the shape that Pillow expects: grey ones without channels."""
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def _pixels(data: bytes, header: Header, channels: int) -> Image.Image:
    with _pillow_errors():
        image = _open(data, header)
        image.load()
        transpose = _orientation(image)
        image = image if transpose is None else image.transpose(transpose)
        if image.mode in _SIXTEEN_BIT:
            high = np.asarray(image).astype(np.int64) >> 8
            image = Image.fromarray(high.clip(0, 255).astype(np.uint8), "L")
        if image.mode in ("P", "PA", "RGBA", "LA"):
            image = image.convert("RGBA").convert("RGB")
        return image.convert(MODES[channels])


def _sixteen_bit_rgb(data: bytes) -> bool:
    return data.startswith(b"\x89PNG") and data[24] == 16


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


def _needs_transpose(image: Image.Image, data: bytes) -> bool:
    # Pillow decodes a whole PNG to find the EXIF data after its pixels, so rule that out first.
    if image.format == "PNG" and not any(marker in data for marker in _ORIENTATION_MARKERS):
        return False
    return _orientation(image) is not None


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """The transpose for the EXIF orientation; None if none is needed or the EXIF is unreadable."""
    try:
        check_exif(_read_exif(image))
        return _TRANSPOSES.get(image.getexif().get(_ORIENTATION, 1))
    except DataError:
        raise
    except Exception:
        return None


def _read_exif(image: Image.Image) -> bytes:
    """The EXIF block that Pillow reads; for a PNG this decodes the image."""
    if isinstance(image, PngImageFile):
        image.load()
    block = image.info.get("exif")
    if block is None and "Raw profile type exif" in image.info:
        # ImageMagick writes three lines, then hexadecimal digits.
        block = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    return block or b""
