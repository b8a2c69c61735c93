"""AVIF and HEIC: the image format and size in an ISO base media file (ISO/IEC 14496-12)."""

import struct
from collections.abc import Iterator

from keras_ae.errors import DataError

_BRANDS = {
    b"avif": "avif",
    b"avis": "avif",
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm"), "heic"),
}
_MAX_BOXES = 64
_MAX_META_BYTES = 2**22
_SIZE = b"ispe"
"""Type of the box with the size of an image (ISO/IEC 23008-12, 6.5.3)."""


def detect_bmff(data: bytes) -> str | None:
    """The format avif or heic by the brands in the first box; None for other files."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), 256)
    # The minor version is between the major brand and the compatible ones.
    brands = [data[8:12], *(data[i : i + 4] for i in range(16, end, 4))]
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)


def bmff_size(data: bytes) -> tuple[int, int]:
    """Height and width of the largest image of a file: others are its tiles and thumbnails.

    Raises:
        DataError: if there is no image.
        struct.error: if a size is truncated.
    """
    meta = next((body for kind, body in _boxes(data) if kind == b"meta"), b"")
    sizes, offset = [], meta.find(_SIZE)
    while offset >= 0:
        width, height = struct.unpack_from(">II", meta, offset + 8)
        sizes.append((height, width))
        offset = meta.find(_SIZE, offset + 4)
    if not sizes:
        raise DataError("the header is truncated")
    return max(sizes, key=lambda size: size[0] * size[1])


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of the first boxes of a file."""
    offset = 0
    for _ in range(_MAX_BOXES):
        if offset + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, offset)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, offset + 8)
        size = size or len(data) - offset
        if size < 8:
            return
        yield kind, data[offset + 8 : offset + min(size, _MAX_META_BYTES)]
        offset += size
