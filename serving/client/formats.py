"""Formats of image files by their first bytes, and their headers as Pillow reads them."""

import functools
import io
import math
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO, Final

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
_RAW_PROFILE = "Raw profile type exif"
_MAX_READS = 16_384
"""Maximum number of parts in which a header is read; hostile ones have millions."""
_MAX_RLE_PIXELS = 2_000_000
"""Maximum for a run-length encoded BMP, which Pillow decodes in Python."""
_MAX_PAGES = 1024
"""Number of pages of a TIFF that are looked at."""
ORIENTATION: Final = 0x0112
"""Tag of EXIF."""
_MAX_ORIENTATIONS = 1024
"""Maximum number of its values, which Pillow converts to numbers; a good image has one."""
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

    It does not use `PIL.Image.open`, which warns about large images and tries other formats. The
    metadata are not read, or checked before: see `check_values`.

    Args:
        file: the whole file.
        image_format: its format, from `detect_format`.

    Raises:
        DataError: if the package for HEIC is missing, or if the metadata are refused.
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
    if image_format in ("tiff", "avif"):
        data = file.read()
        check_values(data if image_format == "tiff" else _avif_exif(data))
        file.seek(0)
    if image_format == "jpeg":
        image_class = _jpeg_class(image_class)
    counted = _CountedReads(file)
    image: ImageFile = image_class(counted)
    counted.left = math.inf
    return image


class _CountedReads:
    """A file that stops a reader after `left` parts, so that a header cannot take minutes."""

    def __init__(self, file: BinaryIO):
        self._file, self.left = file, float(_MAX_READS)

    def read(self, size: int = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise DataError(f"a header in more than {_MAX_READS:,} parts")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@functools.cache
def _jpeg_class(base: Any) -> Any:
    class JpegFile(base):  # type: ignore[misc]
        def _read_dpi_from_exif(self) -> None:
            """Does nothing, so that the EXIF block can be checked before it is read."""

    return JpegFile


def _avif_exif(data: bytes) -> bytes:
    """The EXIF block of an AVIF, which Pillow reads when it opens the file."""
    from PIL import _avif

    exif: bytes = _avif.AvifDecoder(data, "auto", 1).get_info()[4] or b""
    return exif


def open_checked(data: bytes, image_format: str) -> "ImageFile":
    """Opens an image without decoding it, if it may be decoded.

    Raises:
        DataError: if it has more than `keras_ae.contract.MAX_PIXELS` pixels, or would take far more
            memory than its pixels.
        Exception: see `open_header`.
    """
    image = open_header(io.BytesIO(data), image_format)
    check_pixels(image.width, image.height)
    is_rle = image_format == "bmp" and image.info["compression"] in (1, 2)
    if is_rle and max(image.width * image.height, len(data) // 2) > _MAX_RLE_PIXELS:
        raise DataError(f"a run-length encoded BMP of more than {_MAX_RLE_PIXELS:,} pixels")
    return image


def read_orientation(image: "ImageFile") -> int:
    """The EXIF orientation of an opened image, 1 to 8; 1 if there is none or it is unreadable.

    A PNG is decoded, since EXIF data may follow its pixels.

    Raises:
        DataError: if the EXIF block would take far more memory than its size.
        Exception: any, if a PNG cannot be decoded.
    """
    if image.format == "PNG":
        image.load()
    exif = image.info.get("exif")
    with suppress(ValueError):
        if exif is None and _RAW_PROFILE in image.info:
            # ImageMagick writes three lines, then hexadecimal digits.
            exif = bytes.fromhex("".join(image.info[_RAW_PROFILE].split("\n")[3:]))
    check_values(exif or b"")
    with suppress(Exception):
        value: Any = image.getexif().get(ORIENTATION)
        return int(value) if value in range(1, 9) else 1
    return 1


def check_pixels(width: int, height: int) -> None:
    """Raises a DataError if an image is too large, or has no pixels."""
    if width < 1 or height < 1:
        raise DataError(f"the header declares no pixels ({width}x{height})")
    if width * height > MAX_PIXELS:
        raise DataError(f"{width}x{height} is more than the limit of {MAX_PIXELS:,} pixels")


def check_values(block: bytes) -> None:
    """Checks that the values of a TIFF, or of an EXIF block, are not far larger than itself.

    Pillow copies each value, and the values of a hostile file overlap. It converts those of the
    orientation to numbers, which take more.

    Raises:
        DataError: if they are.
    """
    while block.startswith(_EXIF):
        block = block.removeprefix(_EXIF)
    total = orientations = 0
    try:
        for tag, kind, count in _entries(block):
            size = _TYPE_BYTES.get(kind, 0) * count
            # A reader skips values that do not fit.
            if size <= len(block):
                total += size
                orientations = max(orientations, count if tag == ORIENTATION else 0)
    except struct.error:
        # Truncated: Pillow says so.
        return
    if total > 2 * len(block) or orientations > _MAX_ORIENTATIONS:
        raise DataError("values of its metadata are larger than the file")


def _entries(block: bytes) -> Iterator[tuple[int, int, int]]:
    """Tag, type and number of the values of the first directory and of those it refers to."""
    order = "<" if block.startswith(b"II") else ">"
    big = b"+" in block[2:4]
    entry = struct.Struct(order + ("HHQQ" if big else "HHII"))
    (first,) = struct.unpack_from(order + ("Q" if big else "I"), block, 8 if big else 4)
    pending = [first]
    for place, offset in enumerate(pending):
        (number,) = struct.unpack_from(order + ("Q" if big else "H"), block, offset)
        start = offset + (8 if big else 2)
        # Tags are 16-bit numbers, each at most once.
        number = min(number, 2**16, (len(block) - start) // entry.size)
        for tag, kind, count, value in entry.iter_unpack(
            block[start : start + number * entry.size]
        ):
            yield tag, kind, count
            if tag in _SUBDIRECTORIES and place == 0:
                pending.append(value)


def has_pages(image: "Image") -> bool:
    """Whether a TIFF has images besides the first that are not smaller versions of another."""
    reduced = 1
    with suppress(EOFError):
        for page in range(1, _MAX_PAGES):
            image.seek(page)
            if not image.tag_v2.get(254, 0) & reduced:  # type: ignore[attr-defined]
                return True
    return False
