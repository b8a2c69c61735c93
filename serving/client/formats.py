"""Formats of image files by their first bytes, and their headers as Pillow reads them."""

import io
import re
import struct
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, BinaryIO, Final

from keras_ae.contract import MAX_PIXELS
from keras_ae.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

HEAD_BYTES: Final = 512
"""Number of first bytes by which a file is known to be an image."""
CONVERTED: Final = ("tiff", "ppm", "avif", "heic")
"""Formats that no server decodes: `serving.client.prepare` converts all images of these."""
MAX_BYTES: Final = 8 * MAX_PIXELS
"""Maximum size of an image file: the largest image with 16 bits and four channels."""

_MAGIC = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"BM": "bmp"}
_MAGIC |= dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "tiff")
_NETPBM = re.compile(rb"P[1-6][\s#]")
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm"), "heic"),
}
_PLUGINS = {
    name: (f"PIL.{prefix}ImagePlugin", f"{prefix}ImageFile")
    for name, prefix in {
        "png": "Png",
        "jpeg": "Jpeg",
        "bmp": "Bmp",
        "gif": "Gif",
        "webp": "WebP",
        "tiff": "Tiff",
        "avif": "Avif",
        "ppm": "Ppm",
    }.items()
} | {"heic": ("pillow_heif", "HeifImageFile")}
_EXIF = b"Exif\0\0"
_SUBDIRECTORIES = (34665, 34853, 40965)
"""Tags of the directories of EXIF, GPS and interoperability, which Pillow reads as well."""
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_TYPE_BYTES |= {13: 4, 16: 8, 17: 8, 18: 8}
"""Size in bytes of a value of each type of TIFF and BigTIFF."""


def detect_format(head: bytes) -> str | None:
    """Returns the format of a file that begins with these bytes; None if it is no image.

    Args:
        head: the first `HEAD_BYTES` of a file, or all of it.

    Returns:
        png, jpeg (also for MPO), bmp, gif, webp, tiff, ppm (also for PGM and PBM), avif or heic.
    """
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if _NETPBM.match(head):
        return "ppm"
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4], "big"), 256)
        # The minor version is between the major brand and the compatible ones.
        brands = [head[8:12], *(head[i : i + 4] for i in range(16, end, 4))]
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def open_header(file: BinaryIO, image_format: str) -> "ImageFile":
    """Opens an image in Pillow without decoding it.

    It does not use `PIL.Image.open`, which warns about large images and tries other formats.

    Args:
        file: the whole file.
        image_format: its format, from `detect_format`.

    Raises:
        DataError: if the package for HEIC is missing.
        Exception: any, if the header is invalid: the plugins of Pillow document none.
    """
    module, name = _PLUGINS[image_format]
    try:
        image_class = getattr(import_module(module), name)
    except ImportError as error:
        raise DataError(
            f"{image_format.upper()} needs {module.replace('_', '-')}, which is not installed: "
            f"install it with pip, or convert the image to PNG"
        ) from error
    if image_format == "tiff":
        check_values(file.read())
        file.seek(0)
    image: ImageFile = image_class(file)
    return image


def open_checked(data: bytes, image_format: str) -> "ImageFile":
    """Opens an image without decoding it, if it may be decoded.

    Raises:
        DataError: if it has more than `keras_ae.contract.MAX_PIXELS` pixels, or would take far more
            memory than its pixels.
        Exception: see `open_header`.
    """
    image = open_header(io.BytesIO(data), image_format)
    check_pixels(image.width, image.height)
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        check_values(exif.removeprefix(_EXIF))
    return image


def check_pixels(width: int, height: int) -> None:
    """Raises a DataError if an image is too large, or has no pixels."""
    if width < 1 or height < 1:
        raise DataError(f"the header declares no pixels ({width}x{height})")
    if width * height > MAX_PIXELS:
        raise DataError(f"{width}x{height} is more than the limit of {MAX_PIXELS:,} pixels")


def check_values(block: bytes) -> None:
    """Checks that the values of a TIFF, or of an EXIF block, are not far larger than itself.

    Pillow copies each value, and the values of a hostile file overlap.

    Raises:
        DataError: if they are.
    """
    total = 0
    try:
        for kind, count in _entries(block):
            size = _TYPE_BYTES.get(kind, 0) * count
            # A reader skips values that do not fit.
            total += size if size <= len(block) else 0
    except struct.error:
        # Truncated: Pillow says so.
        return
    if total > 2 * len(block):
        raise DataError("values of its metadata are larger than the file")


def _entries(block: bytes) -> Iterator[tuple[int, int]]:
    """Type and count of the values of the first directory and of those that it refers to."""
    order = "<" if block.startswith(b"II") else ">"
    big = b"+" in block[2:4]
    entry = struct.Struct(order + ("HHQQ" if big else "HHII"))
    (first,) = struct.unpack_from(order + ("Q" if big else "I"), block, 8 if big else 4)
    pending = [first]
    for offset in pending:
        (number,) = struct.unpack_from(order + ("Q" if big else "H"), block, offset)
        start = offset + (8 if big else 2)
        # Tags are 16-bit numbers, each at most once.
        number = min(number, 2**16, (len(block) - start) // entry.size)
        for tag, kind, count, value in entry.iter_unpack(
            block[start : start + number * entry.size]
        ):
            yield kind, count
            if tag in _SUBDIRECTORIES and offset == first:
                pending.append(value)


def has_pages(image: "Image") -> bool:
    """Whether a TIFF has images besides the first that are not smaller versions of another."""
    reduced = 1
    for page in range(1, getattr(image, "n_frames", 1)):
        image.seek(page)
        if not image.tag_v2.get(254, 0) & reduced:  # type: ignore[attr-defined]
            return True
    return False
