"""Preparation of an image file for a server: it changes only what a server would decode wrongly.

The graph of a model decodes PNG, JPEG, BMP, GIF and WebP. It ignores the EXIF orientation, knows no
transparency of a GIF, and no unusual BMP. Such images, and those of other formats, are sent as PNG.
"""

import io
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from keras_ae.contract import MAX_PIXELS
from keras_ae.datasets.images.netpbm import check_netpbm, read_netpbm_header
from keras_ae.datasets.images.netpbm_pixels import decode_netpbm
from keras_ae.errors import DataError, one_line

from . import deep
from .formats import (
    CONVERTED,
    check_pixels,
    detect_format,
    has_pages,
    open_checked,
    open_header,
    read_orientation,
)

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

FIRST_PAGE: Final = "only the first page was sent"
"""Note on a TIFF with several pages."""

_UPRIGHT = 1
_ORIENTATION_MARKERS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Every PNG with an EXIF orientation contains one of these."""
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
_BMP_MASKS = struct.pack("<3I", 0xFF0000, 0xFF00, 0xFF)
_SUBFILE, _COMPRESSION, _TILE_WIDTH, _TILE_HEIGHT, _DNG = 254, 259, 322, 323, 50706
# Not LZMA (34925), whose streams may demand a dictionary of gigabytes.
_TIFF_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 50000, 50001)


class Prepared(NamedTuple):
    """What is sent of an image.

    Attributes:
        data: the unchanged file, or a PNG.
        note: what the user should know, such as `FIRST_PAGE`; empty for most images.
    """

    data: bytes
    note: str = ""


def prepare(data: bytes, white: float | None = None) -> Prepared:
    """Returns an image as a server decodes it to the pixels that ingest stores.

    A file of an unknown format is returned as it is: the server says what it expects.

    Args:
        data: an image file.
        white: level of floats and 32-bit integers that becomes 255; None if only floats of 0..1
            are allowed. Levels with 16 bits stay, because the model knows their range.

    Raises:
        DataError: if an image that must be changed cannot be decoded, or is too large.
    """
    image_format = detect_format(data)
    if image_format is None:
        return Prepared(data)
    if image_format not in CONVERTED:
        return Prepared(_prepare_decodable(data, image_format))
    try:
        if image_format == "ppm":
            return Prepared(_encode(_decode_netpbm(data)))
        image = open_checked(data, image_format)
        if image_format == "tiff":
            return _prepare_tiff(data, image, white)
        return Prepared(_convert(image, data))
    except DataError:
        raise
    except Exception as error:
        # The plugins of Pillow raise undocumented exceptions: ValueError, SyntaxError and others.
        raise DataError(f"cannot be decoded: {one_line(error)}") from error


def _prepare_decodable(data: bytes, image_format: str) -> bytes:
    """The data of an image of a format of the graph, converted only if it must be."""
    if image_format == "png" and not any(marker in data for marker in _ORIENTATION_MARKERS):
        # Pillow decodes a whole PNG to find the EXIF data after its pixels.
        return data
    # A PNG whose orientation cannot be found out is refused.
    must_convert = image_format == "png"
    try:
        if not _must_convert(data, image_format):
            return data
        must_convert = True
        image = open_checked(data, image_format)
        if image_format == "png" and data[deep.PNG_DEPTH] == 16:
            return _turn_png16(data, image)
        return _convert(image, data)
    except DataError:
        raise
    except Exception as error:
        if must_convert:
            raise DataError(f"cannot be decoded: {one_line(error)}") from error
        # The server says what is wrong with it.
        return data


def _must_convert(data: bytes, image_format: str) -> bool:
    if image_format == "bmp":
        return not _is_common_bmp(data)
    image = open_header(io.BytesIO(data), image_format)
    if image.width * image.height > MAX_PIXELS:
        # The server says so.
        return False
    if image_format == "gif":
        is_whole = image.tile and image.tile[0][1] == (0, 0, *image.size)
        return "transparency" in image.info or not is_whole
    return read_orientation(image) != _UPRIGHT


def _is_common_bmp(data: bytes) -> bool:
    """Whether TensorFlow decodes a BMP: 8, 24 or 32 bits in the usual order, not compressed."""
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    bits, compression = struct.unpack_from("<HI", data, 28)
    is_plain = compression == 0 or (compression == 3 and data[54:66] == _BMP_MASKS)
    return header_bytes >= 40 and bits in (8, 24, 32) and is_plain


def _decode_netpbm(data: bytes) -> np.ndarray:
    header = read_netpbm_header(data)
    check_pixels(header.width, header.height)
    check_netpbm(data)
    return decode_netpbm(data)


def _prepare_tiff(data: bytes, image: "ImageFile", white: float | None) -> Prepared:
    _check_tiff(data, image)
    note = FIRST_PAGE if has_pages(open_checked(data, "tiff")) else ""
    if not deep.is_deep_tiff(image):
        return Prepared(_convert(image, data), note)
    pixels = deep.read_deep_tiff(data)
    if pixels.dtype == np.uint16:
        return Prepared(deep.encode_png16(pixels), note)
    return Prepared(_encode(deep.convert_numbers(pixels, white)), note)


def _check_tiff(data: bytes, image: "ImageFile") -> None:
    tags = image.tag_v2  # type: ignore[attr-defined]
    if data[8:10] == b"CR" or _DNG in tags or tags.get(_SUBFILE, 0) & 1:
        raise DataError("a camera's raw file; expected the developed image, such as a TIFF or JPEG")
    if tags.get(_COMPRESSION, 1) not in _TIFF_COMPRESSIONS:
        raise DataError(f"a TIFF with an unsupported compression ({tags.get(_COMPRESSION)})")
    if _TILE_WIDTH in tags:
        check_pixels(tags[_TILE_WIDTH], tags.get(_TILE_HEIGHT, 1))


def _encode(pixels: np.ndarray) -> bytes:
    """Encodes uint8 or uint16 [H, W, C] with C 1 or 3 as PNG."""
    if pixels.dtype == np.uint16:
        return deep.encode_png16(pixels)
    from PIL import Image

    return _save(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))


def _save(image: "Image") -> bytes:
    buffer = io.BytesIO()
    # Without the metadata, of which the orientation is applied.
    image.info = {}
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _convert(image: "ImageFile", data: bytes) -> bytes:
    return _save(flatten(image, data))


def flatten(image: "ImageFile", data: bytes) -> "Image":
    """Decodes, turns and composites an opened image over white; the result has mode L or RGB.

    Args:
        image: from `formats.open_checked`.
        data: the image file.

    Raises:
        Exception: any, if it cannot be decoded.
    """
    from PIL import Image

    image.load()
    transpose = _transposes().get(read_orientation(image))
    turned: Image.Image = image if transpose is None else image.transpose(transpose)
    if turned.mode in _ALPHA_MODES or "transparency" in turned.info:
        if image.format == "PNG" and turned.mode == "L" and data[deep.PNG_DEPTH] in (2, 4):
            # Pillow scales the levels to 8 bits, but not the transparent level.
            turned.info["transparency"] *= 255 // (2 ** data[deep.PNG_DEPTH] - 1)
        turned = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned)
    return turned.convert("L" if turned.mode in ("1", "L") else "RGB")


def _turn_png16(data: bytes, image: "ImageFile") -> bytes:
    pixels, transparency = deep.read_png16(data)
    pixels = _turn(pixels, read_orientation(image))
    return deep.encode_png16(pixels, transparency)


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation to [H, W, C]."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


def _transposes() -> dict[int, Any]:
    """The transpose for each orientation but the upright."""
    from PIL.Image import Transpose

    return {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
