"""Format, height and width of an encoded image from its first bytes, before any decoding."""

import itertools
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from keras_ae.contract import MAX_PIXELS
from keras_ae.errors import DataError

MAX_BYTES = 4 * MAX_PIXELS
"""Of an encoded image: four for each pixel of the largest one."""
MAX_SEGMENTS = 1024
"""Of a JPEG: the largest colour profile takes 255, a hundred scans with their tables 500."""
MAX_STRAY_BYTES = 2**16

OLD_BMP = 12
"""Size of the information header of the oldest BMPs."""
JPEG_SCAN = 0xDA

_MARKS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"BM": "bmp"}
# Zeros, fillers and restarts belong to what stands around them.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_STANDALONE = (0x01, 0xD8)


class Header(NamedTuple):
    """What an image says of itself; `format` is png, jpeg, bmp, gif or webp."""

    format: str
    height: int
    width: int


def read_header(data: bytes) -> Header:
    """Reads the header of an encoded image.

    Raises:
        DataError: if it is none of the five formats, is cut short, gives no pixels, or more than
            `keras_ae.contract.MAX_PIXELS`.
    """
    if not data:
        raise DataError("empty")
    try:
        header = _parse(data)
    except (struct.error, IndexError) as error:
        raise DataError("the header is cut short") from error
    if header is None:
        raise DataError("not a PNG, JPEG, BMP, GIF or WebP image")
    if header.height < 1 or header.width < 1:
        raise DataError(f"the header gives no pixels ({header.width}x{header.height})")
    if header.height * header.width > MAX_PIXELS:
        raise DataError(
            f"{header.width}x{header.height} is more than the limit of {MAX_PIXELS:,} pixels"
        )
    return header


def looks_like_image(data: bytes) -> bool:
    """Whether bytes begin as one of the five formats does."""
    return _kind(data) is not None


def _kind(data: bytes) -> str | None:
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    return next((kind for mark, kind in _MARKS.items() if data.startswith(mark)), None)


def _parse(data: bytes) -> Header | None:
    kind = _kind(data)
    if kind == "png":
        width, height = struct.unpack_from(">II", data, 16)
    elif kind == "jpeg":
        height, width = _jpeg_size(data)
    elif kind == "gif":
        width, height = struct.unpack_from("<HH", data, 6)
    elif kind == "bmp":
        width, height = _bmp_size(data)
    elif kind == "webp":
        height, width = _webp_size(data)
    else:
        return None
    return Header(kind, height, width)


def _bmp_size(data: bytes) -> tuple[int, int]:
    """Width and height, in words of 16 bits in the oldest form; negative heights are top down."""
    (size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if size == OLD_BMP else "<ii", data, 18)
    return width, abs(height)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width from the first start-of-frame segment (ITU-T T.81, B.2.2)."""
    for marker, at in jpeg_segments(data):
        if is_jpeg_frame(marker):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width
    raise DataError("the header is cut short")


def is_jpeg_frame(marker: int) -> bool:
    """Whether a segment tells the size of a JPEG."""
    return 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """The markers of a JPEG and where they stand, without those that restart a scan.

    Raises:
        DataError: if there are more than `MAX_SEGMENTS`, or more than `MAX_STRAY_BYTES` before the
            pixels belong to none.
        struct.error: if a segment is cut short.
    """
    at, stray, in_scan = 2, 0, False
    for count in itertools.count():
        found = _MARKER.search(data, at)
        if found is None:
            return
        stray += 0 if in_scan else found.start() - at
        if count >= MAX_SEGMENTS or stray > MAX_STRAY_BYTES:
            raise DataError(
                f"a JPEG with more than {MAX_SEGMENTS:,} segments, or {MAX_STRAY_BYTES:,} bytes "
                "that belong to none"
            )
        marker = data[found.end() - 1]
        yield marker, found.start()
        at = found.end()
        in_scan = in_scan or marker == JPEG_SCAN
        if marker not in _STANDALONE:
            at += struct.unpack_from(">H", data, at)[0]


def _webp_size(data: bytes) -> tuple[int, int]:
    """Height and width of the extended, lossless or lossy form (RFC 9649)."""
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        struct.unpack_from("B", data, 29)
        return int.from_bytes(data[27:30], "little") + 1, width
    if kind == b"VP8L":
        (word,) = struct.unpack_from("<I", data, 21)
        return (word >> 14 & 0x3FFF) + 1, (word & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return height & 0x3FFF, width & 0x3FFF
