"""Format, height and width of an encoded image from its first bytes, before any decoding."""

import struct
from typing import NamedTuple

from keras_ae.contract import MAX_PIXELS
from keras_ae.errors import DataError


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


def _parse(data: bytes) -> Header | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack_from(">II", data, 16)
        return Header("png", height, width)
    if data.startswith(b"\xff\xd8\xff"):
        return Header("jpeg", *_jpeg_size(data))
    if data.startswith(b"GIF8"):
        width, height = struct.unpack_from("<HH", data, 6)
        return Header("gif", height, width)
    if data.startswith(b"BM"):
        width, height = struct.unpack_from("<ii", data, 18)
        return Header("bmp", abs(height), width)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return Header("webp", *_webp_size(data))
    return None


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width from the first start-of-frame segment (ITU-T T.81, B.2.2)."""
    at = 2
    while True:
        while data[at] != 0xFF or data[at + 1] in (0xFF, 0x00):
            at += 1
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width
        standalone = marker == 0x01 or 0xD0 <= marker <= 0xD8
        at += 2 if standalone else 2 + struct.unpack_from(">H", data, at + 2)[0]


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
