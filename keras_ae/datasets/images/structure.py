"""Checks of the structure of an encoded image, without decoding it.

They find images that are truncated, and images that are built to cost a decoder far more time or
memory than their pixels need.
"""

import struct
from collections.abc import Callable

from keras_ae.datasets.images.headers import (
    BMP_CORE_HEADER_BYTES,
    JPEG_SCAN,
    Header,
    is_jpeg_frame,
    jpeg_segments,
)
from keras_ae.datasets.images.netpbm import check_netpbm
from keras_ae.datasets.images.tiff import TYPE_BYTES, check_tiff
from keras_ae.errors import DataError

MAX_CHUNKS, MAX_OTHER_CHUNKS = 100_000, 20_000
"""Maximum numbers of chunks of a PNG, in total and without pixels. The largest image has 31,000 in
the size that libpng writes."""
MAX_SCANS = 100
"""Maximum for a JPEG. A decoder passes over all pixels for each; encoders write up to about ten."""
MAX_EXIF_SEGMENTS = 16
ORIENTATION, MAX_ORIENTATIONS = 0x0112, 1024
"""Tag of EXIF, and its maximum number of values; a good image has one."""
MAX_GIF_BLOCKS, MAX_GIF_BYTES = 16_384, 2**20
"""Maximum for a GIF before its first frame, where comments and other extensions are."""
MAX_RLE_PIXELS = 2_000_000
"""Maximum for a run-length encoded BMP, which Pillow decodes in Python."""

_DEFLATE_RATIO = 1032
"""Maximum number of bytes that one byte of deflate data decompresses to."""
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_EXIF = b"Exif\0\0"


def check_structure(data: bytes, header: Header) -> None:
    """Rejects an image that is truncated or would cost far more to decode than its pixels need.

    Args:
        data: the encoded image.
        header: its header, from `read_header`.

    Raises:
        DataError: if the image is rejected.
    """
    checks: dict[str, Callable[[bytes, Header], None]] = {
        "png": _check_png,
        "jpeg": _check_jpeg,
        "gif": _check_gif,
        "bmp": _check_bmp,
        "tiff": lambda data, _: check_tiff(data),
        "ppm": lambda data, _: check_netpbm(data),
    }
    if header.format in checks:
        try:
            checks[header.format](data, header)
        except (struct.error, IndexError) as error:
            raise DataError("cannot be decoded: truncated") from error


def check_exif(exif: bytes) -> None:
    """Rejects an EXIF block whose values overlap and together are far larger than the block.

    A reader copies each value, so that a small block could take gigabytes of memory. It converts
    those of the orientation to numbers, which take more.

    Raises:
        DataError: if the block is rejected.
    """
    while exif.startswith(_EXIF):
        exif = exif.removeprefix(_EXIF)
    order = "<" if exif.startswith(b"II") else ">"
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, first)
    except struct.error:
        return
    entries = exif[first + 2 : first + 2 + 12 * count]
    whole = entries[: len(entries) // 12 * 12]
    total = orientations = 0
    for tag, kind, number in struct.iter_unpack(f"{order}HHI4x", whole):
        size = TYPE_BYTES.get(kind, 0) * number
        # A reader skips values that do not fit into the block.
        if size <= len(exif):
            total += size
            orientations = max(orientations, number if tag == ORIENTATION else 0)
    if total > 2 * len(exif) or orientations > MAX_ORIENTATIONS:
        raise DataError("an EXIF block whose values are larger than the block")


def _check_png(data: bytes, header: Header) -> None:
    offset, compressed_bytes, other_chunks = 8, 0, 0
    palette_missing = data[25] == 3
    for number in range(MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, offset)
        offset += 12 + length
        if offset > len(data):
            raise DataError("cannot be decoded: truncated")
        if (kind == b"IHDR") != (number == 0):
            raise DataError("cannot be decoded: a PNG must have one header, which comes first")
        if kind == b"IDAT":
            compressed_bytes += length
            if palette_missing:
                raise DataError("cannot be decoded: a palette image without a palette")
        elif kind == b"IEND":
            break
        else:
            other_chunks += 1
            palette_missing = palette_missing and kind != b"PLTE"
        if other_chunks > MAX_OTHER_CHUNKS:
            raise DataError(f"a PNG with more than {MAX_OTHER_CHUNKS:,} chunks without pixels")
    else:
        raise DataError(f"a PNG with more than {MAX_CHUNKS:,} chunks")
    row_bytes = (header.width * data[24] * _PNG_SAMPLES.get(data[25], 1) + 7) // 8
    if compressed_bytes * _DEFLATE_RATIO < header.height * row_bytes:
        raise DataError(_too_few_bytes(compressed_bytes, header))


def _too_few_bytes(size: int, header: Header) -> str:
    return f"cannot be decoded: {size:,} bytes cannot hold {header.width}x{header.height} pixels"


def _check_jpeg(data: bytes, header: Header) -> None:
    exif, frames, scans, components = b"", 0, 0, 0
    for marker, offset in jpeg_segments(data):
        if marker == 0xE1 and data.startswith(_EXIF, offset + 4):
            (length,) = struct.unpack_from(">H", data, offset + 2)
            exif += data[offset + 4 + len(_EXIF) : offset + 2 + length]
            if len(exif) > MAX_EXIF_SEGMENTS * 2**16:
                raise DataError(
                    f"a JPEG with an EXIF block of more than {MAX_EXIF_SEGMENTS} segments"
                )
        elif is_jpeg_frame(marker):
            frames += 1
            if frames > 1:
                raise DataError("cannot be decoded: a JPEG with several frame headers")
            # A progressive JPEG always has several scans.
            components = data[offset + 9] if marker in (0xC0, 0xC1) else 0
            # A block takes at least one bit and covers at most 32 x 32 pixels.
            if len(data) * 8 * 32 * 32 < header.width * header.height and marker < 0xC8:
                raise DataError(_too_few_bytes(len(data), header))
        elif marker == JPEG_SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise DataError(f"a JPEG with more than {MAX_SCANS} scans")
            if data[offset + 4] == components:
                # A decoder stops after a scan that contains all components.
                break
        elif marker == 0xD9:
            break
    check_exif(exif)


def _check_gif(data: bytes, header: Header) -> None:
    offset = 13 + (6 << (data[10] & 7) if data[10] & 0x80 else 0)
    start, blocks = offset, 0
    while data[offset] == 0x21:
        offset += 2
        while data[offset]:
            offset += data[offset] + 1
            blocks += 1
            if blocks > MAX_GIF_BLOCKS or offset - start > MAX_GIF_BYTES:
                raise DataError(
                    f"a GIF with more than {MAX_GIF_BLOCKS:,} blocks or {MAX_GIF_BYTES:,} bytes "
                    "before its first frame"
                )
        offset += 1
        blocks += 1
    if data[offset] != 0x2C:
        raise DataError("cannot be decoded: a GIF without a frame after its header")


def _check_bmp(data: bytes, header: Header) -> None:
    start, header_bytes = struct.unpack_from("<II", data, 10)
    bits, compression = struct.unpack_from("<H", data, 24)[0], 0
    if header_bytes != BMP_CORE_HEADER_BYTES:
        bits, compression = struct.unpack_from("<HI", data, 28)
    pixels = header.width * header.height
    if compression in (1, 2):
        if pixels > MAX_RLE_PIXELS or len(data) > 2 * MAX_RLE_PIXELS:
            raise DataError(
                f"a run-length encoded BMP of more than {MAX_RLE_PIXELS:,} pixels, or "
                f"{2 * MAX_RLE_PIXELS:,} bytes"
            )
    elif start + (header.width * bits + 31) // 32 * 4 * (header.height - 1) > len(data):
        raise DataError("cannot be decoded: truncated")
