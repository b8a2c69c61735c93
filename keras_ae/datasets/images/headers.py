"""Format, height and width of an encoded image from its first bytes, before any decoding."""

import itertools
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from keras_ae.contract import MAX_PIXELS
from keras_ae.datasets.images.bmff import bmff_size, detect_bmff
from keras_ae.datasets.images.netpbm import is_netpbm, read_netpbm_header
from keras_ae.datasets.images.tiff import HEIGHT, WIDTH, first_directory
from keras_ae.datasets.images.tiff import MAGIC as TIFF_MAGIC
from keras_ae.errors import DataError

MAX_BYTES = 4 * MAX_PIXELS
"""Maximum size of an encoded image: four bytes for each pixel of the largest image."""
MAX_SEGMENTS = 1024
"""Maximum for a JPEG. The largest colour profile takes 255, a hundred scans with tables 500."""
MAX_STRAY_BYTES = 2**16
"""Maximum number of bytes of a JPEG that are in no segment before its first scan."""

BMP_CORE_HEADER_BYTES = 12
"""Size of the information header of the oldest BMPs (BITMAPCOREHEADER)."""
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_SCAN = 0xDA
"""Marker at the start of a scan (SOS)."""
UNKNOWN_FORMAT = "not a PNG, JPEG, BMP, GIF, WebP, TIFF, PPM, AVIF or HEIC image"

_MAGIC = {PNG_MAGIC: "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"BM": "bmp"}
_MAGIC |= dict.fromkeys(TIFF_MAGIC, "tiff")
# A stuffed zero, a fill byte or a restart marker does not start a segment (ITU-T T.81, B.1.1).
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_STANDALONE = (0x01, 0xD8)


class Header(NamedTuple):
    """Format, height and width that an image declares; of an AVIF or HEIC at most these.

    The format is png, jpeg (also for MPO), bmp, gif, webp, tiff, ppm (also for PGM and PBM), avif
    or heic.
    """

    format: str
    height: int
    width: int


def read_header(data: bytes) -> Header:
    """Reads the header of an encoded image.

    Raises:
        DataError: if the format is unknown, the header is truncated, the image has no
            pixels, or it has more than `keras_ae.contract.MAX_PIXELS`.
    """
    if not data:
        raise DataError("empty")
    try:
        header = _parse(data)
    except (struct.error, IndexError) as error:
        raise DataError("the header is truncated") from error
    if header is None:
        raise DataError(UNKNOWN_FORMAT)
    if header.height < 1 or header.width < 1:
        raise DataError(f"the header declares no pixels ({header.width}x{header.height})")
    if header.height * header.width > MAX_PIXELS:
        raise DataError(
            f"{header.width}x{header.height} is more than the limit of {MAX_PIXELS:,} pixels"
        )
    return header


def looks_like_image(data: bytes) -> bool:
    """Whether data starts with the magic bytes of one of the formats of `Header`."""
    return detect_format(data) is not None


def detect_format(data: bytes) -> str | None:
    """The format of `Header` that the first bytes of a file are those of; None for other files."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if is_netpbm(data):
        return "ppm"
    known = next((format for magic, format in _MAGIC.items() if data.startswith(magic)), None)
    return known or detect_bmff(data)


def _parse(data: bytes) -> Header | None:
    format = detect_format(data)
    if format == "png":
        width, height = struct.unpack_from(">II", data, 16)
    elif format == "jpeg":
        height, width = _jpeg_size(data)
    elif format == "gif":
        width, height = struct.unpack_from("<HH", data, 6)
    elif format == "bmp":
        width, height = _bmp_size(data)
    elif format == "webp":
        height, width = _webp_size(data)
    elif format == "tiff":
        first = first_directory(data)
        height, width = first.first(HEIGHT), first.first(WIDTH)
    elif format == "ppm":
        _, height, width, *_ = read_netpbm_header(data)
    elif format in ("avif", "heic"):
        height, width = bmff_size(data)
    else:
        return None
    return Header(format, height, width)


def _bmp_size(data: bytes) -> tuple[int, int]:
    """Width and height: 16-bit in the oldest form, else 32-bit; a negative height is top-down."""
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    sides = "<HH" if header_bytes == BMP_CORE_HEADER_BYTES else "<ii"
    width, height = struct.unpack_from(sides, data, 18)
    return width, abs(height)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width from the first start-of-frame segment (ITU-T T.81, B.2.2)."""
    for marker, offset in jpeg_segments(data):
        if is_jpeg_frame(marker):
            height, width = struct.unpack_from(">HH", data, offset + 5)
            return height, width
    raise DataError("the header is truncated")


def is_jpeg_frame(marker: int) -> bool:
    """Whether a marker starts a frame segment, which contains the size of the image."""
    return 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yields the markers of a JPEG and their offsets, without those that restart a scan.

    Raises:
        DataError: if there are more than `MAX_SEGMENTS`, or more than `MAX_STRAY_BYTES` outside of
            segments before the first scan.
        struct.error: if a segment is truncated.
    """
    offset, stray_bytes, in_scan = 2, 0, False
    for count in itertools.count():
        match = _MARKER.search(data, offset)
        if match is None:
            return
        stray_bytes += 0 if in_scan else match.start() - offset
        if count >= MAX_SEGMENTS or stray_bytes > MAX_STRAY_BYTES:
            raise DataError(
                f"a JPEG with more than {MAX_SEGMENTS:,} segments, or more than "
                f"{MAX_STRAY_BYTES:,} bytes outside of them"
            )
        marker = data[match.end() - 1]
        yield marker, match.start()
        offset = match.end()
        in_scan = in_scan or marker == JPEG_SCAN
        if marker not in _STANDALONE:
            offset += struct.unpack_from(">H", data, offset)[0]


def _webp_size(data: bytes) -> tuple[int, int]:
    """Height and width of the extended, lossless or lossy form (RFC 9649)."""
    form = data[12:16]
    if form == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        # Raises struct.error if the height is truncated.
        struct.unpack_from("B", data, 29)
        return int.from_bytes(data[27:30], "little") + 1, width
    if form == b"VP8L":
        (word,) = struct.unpack_from("<I", data, 21)
        return (word >> 14 & 0x3FFF) + 1, (word & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return height & 0x3FFF, width & 0x3FFF
