"""What an encoded image is made of, looked at without decoding it.

An image that is cut short, or made to cost its decoder far more than its pixels do, is told here.
"""

import struct
from collections.abc import Callable

from keras_ae.datasets.images.headers import (
    JPEG_SCAN,
    OLD_BMP,
    Header,
    is_jpeg_frame,
    jpeg_segments,
)
from keras_ae.errors import DataError

MAX_CHUNKS, MAX_OTHER_CHUNKS = 100_000, 20_000
"""Of a PNG, and those that hold no pixels: the largest image has 31,000 of libpng's size."""
MAX_SCANS = 100
"""Of a JPEG, each a pass over all pixels; encoders write up to about ten."""
MAX_EXIF_SEGMENTS = 16
MAX_GIF_BLOCKS, MAX_GIF_BYTES = 16_384, 2**20
"""Of a GIF before its first frame: comments and the like."""
MAX_RLE_PIXELS = 2_000_000
"""Of a run-length encoded BMP, which Pillow decodes in Python."""

_DEFLATE_RATIO = 1032
"""Bytes that one byte of deflate gives at most."""
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_EXIF = b"Exif\0\0"
_EXIF_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


def check_structure(data: bytes, header: Header) -> None:
    """Refuses an image that is cut short or would cost far more than its pixels do.

    Args:
        data: the encoded image.
        header: what `read_header` gave for it.

    Raises:
        DataError: if it is one.
    """
    checks: dict[str, Callable[[bytes, Header], None]] = {
        "png": _check_png,
        "jpeg": _check_jpeg,
        "gif": _check_gif,
        "bmp": _check_bmp,
    }
    if header.format in checks:
        try:
            checks[header.format](data, header)
        except (struct.error, IndexError) as error:
            raise DataError("cannot be decoded: truncated") from error


def check_exif(exif: bytes) -> None:
    """Refuses an EXIF block whose values, each copied by its reader, are larger than it together.

    Raises:
        DataError: if it is one.
    """
    exif = exif.removeprefix(_EXIF)
    order = "<" if exif.startswith(b"II") else ">"
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, first)
    except struct.error:
        return
    entries = exif[first + 2 : first + 2 + 12 * count]
    whole = entries[: len(entries) // 12 * 12]
    sizes = (
        _EXIF_TYPES.get(kind, 0) * number
        for _, kind, number in struct.iter_unpack(f"{order}HHI4x", whole)
    )
    # Those that do not fit are not read.
    if sum(size for size in sizes if size <= len(exif)) > 2 * len(exif):
        raise DataError("an EXIF block whose values are larger than it")


def _check_png(data: bytes, header: Header) -> None:
    at, packed, others = 8, 0, 0
    coloured = data[25] != 3
    for number in range(MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if at > len(data):
            raise DataError("cannot be decoded: truncated")
        if (kind == b"IHDR") != (number == 0):
            raise DataError("cannot be decoded: a PNG begins with its only header")
        if kind == b"IDAT":
            packed += length
            if not coloured:
                raise DataError("cannot be decoded: no palette")
        elif kind == b"IEND":
            break
        else:
            others += 1
            coloured = coloured or kind == b"PLTE"
        if others > MAX_OTHER_CHUNKS:
            raise DataError(f"a PNG with more than {MAX_OTHER_CHUNKS:,} chunks without pixels")
    else:
        raise DataError(f"a PNG of more than {MAX_CHUNKS:,} chunks")
    row = (header.width * data[24] * _PNG_SAMPLES.get(data[25], 1) + 7) // 8
    if packed * _DEFLATE_RATIO < header.height * row:
        raise DataError(_too_little(packed, header))


def _too_little(size: int, header: Header) -> str:
    return f"cannot be decoded: {size:,} bytes cannot hold {header.width}x{header.height} pixels"


def _check_jpeg(data: bytes, header: Header) -> None:
    exif, frames, scans, components = b"", 0, 0, 0
    for marker, at in jpeg_segments(data):
        if marker == 0xE1 and data.startswith(_EXIF, at + 4):
            (length,) = struct.unpack_from(">H", data, at + 2)
            exif += data[at + 4 + len(_EXIF) : at + 2 + length]
            if len(exif) > MAX_EXIF_SEGMENTS * 2**16:
                raise DataError(f"a JPEG with an EXIF block of more than {MAX_EXIF_SEGMENTS} parts")
        elif is_jpeg_frame(marker):
            frames += 1
            if frames > 1:
                raise DataError("cannot be decoded: a JPEG of more than one size")
            # A progressive one has many scans in any case.
            components = data[at + 9] if marker in (0xC0, 0xC1) else 0
            # A block takes a bit at least, and stands for 32 x 32 pixels at most.
            if len(data) * 8 * 32 * 32 < header.width * header.height and marker < 0xC8:
                raise DataError(_too_little(len(data), header))
        elif marker == JPEG_SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise DataError(f"a JPEG of more than {MAX_SCANS} scans")
            if data[at + 4] == components:
                # A decoder looks at no more than one that has all.
                break
        elif marker == 0xD9:
            break
    check_exif(exif)


def _check_gif(data: bytes, header: Header) -> None:
    at = 13 + (6 << (data[10] & 7) if data[10] & 0x80 else 0)
    start, blocks = at, 0
    while data[at] == 0x21:
        at += 2
        while data[at]:
            at += data[at] + 1
            blocks += 1
            if blocks > MAX_GIF_BLOCKS or at - start > MAX_GIF_BYTES:
                raise DataError(
                    f"a GIF with more than {MAX_GIF_BLOCKS:,} blocks or {MAX_GIF_BYTES:,} bytes "
                    "before its first frame"
                )
        at += 1
        blocks += 1
    if data[at] != 0x2C:
        raise DataError("cannot be decoded: no frame where a GIF has its first one")


def _check_bmp(data: bytes, header: Header) -> None:
    start, size = struct.unpack_from("<II", data, 10)
    bits, packing = struct.unpack_from("<H", data, 24)[0], 0
    if size != OLD_BMP:
        bits, packing = struct.unpack_from("<HI", data, 28)
    pixels = header.width * header.height
    if packing in (1, 2):
        if pixels > MAX_RLE_PIXELS or len(data) > 2 * MAX_RLE_PIXELS:
            raise DataError(
                f"a run-length encoded BMP of more than {MAX_RLE_PIXELS:,} pixels, or "
                f"{2 * MAX_RLE_PIXELS:,} bytes"
            )
    elif start + (header.width * bits + 31) // 32 * 4 * (header.height - 1) > len(data):
        raise DataError("cannot be decoded: truncated")
