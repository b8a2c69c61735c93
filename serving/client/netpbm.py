"""PBM, PGM and PPM, binary and plain: Pillow loses the levels of those with 16 bits.

See https://netpbm.sourceforge.net/doc/ppm.html and its neighbours.
"""

import re
from typing import NamedTuple

import numpy as np

from keras_ae.errors import DataError

from .formats import check_pixels

MAX_HEADER_BYTES = 2**16
MAX_PLAIN_SAMPLES = 50_000_000
"""Maximum for a plain file, whose numbers are text."""

_TOKEN = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*(\d{1,10})(?=[\s#])")
_COMMENT = re.compile(rb"#[^\r\n]*")
_NUMBERS = re.compile(rb"(?:\s*\d{1,5}(?=\s|$))*\s*")


class NetpbmHeader(NamedTuple):
    """The header of a file: its kind is the digit of its magic bytes, its maximum is white."""

    kind: int
    width: int
    height: int
    maximum: int
    offset: int


def read_header(data: bytes) -> NetpbmHeader:
    """Reads the header of a file with its magic bytes.

    Raises:
        DataError: if it is truncated or invalid, or the image is too large.
    """
    kind, offset, numbers = data[1] - ord("0"), 2, []
    for _ in range(2 if kind in (1, 4) else 3):
        match = _TOKEN.match(data, offset, MAX_HEADER_BYTES)
        if match is None:
            raise DataError(f"the header is truncated, or longer than {MAX_HEADER_BYTES:,} bytes")
        numbers.append(int(match[1]))
        offset = match.end()
    width, height, maximum = (*numbers, 1)[:3]
    if not 0 < maximum < 2**16:
        raise DataError(f"the header declares a level of white of {maximum}; expected 1 to 65535")
    check_pixels(width, height)
    return NetpbmHeader(kind, width, height, maximum, offset + 1)


def decode(data: bytes) -> np.ndarray:
    """Decodes a file.

    Returns:
        uint8 [H, W, C], with C 1 or 3, scaled to the file's level of white up to 255; or uint16 as
        in the file if that level is larger.

    Raises:
        DataError: if it is invalid or truncated.
    """
    header = read_header(data)
    shape = header.height, header.width, 3 if header.kind in (3, 6) else 1
    try:
        if header.kind in (1, 4):
            return (_bits(data, header) * np.uint8(255)).reshape(shape)
        levels = np.minimum(_levels(data, header, int(np.prod(shape))), header.maximum)
        levels = levels.reshape(shape)
    except ValueError as error:
        raise DataError("cannot be decoded: truncated") from error
    if header.maximum > 255:
        return levels.astype(np.uint16)
    scale = np.arange(header.maximum + 1) * 510 + header.maximum
    return (scale // (2 * header.maximum)).astype(np.uint8)[levels]


def _bits(data: bytes, header: NetpbmHeader) -> np.ndarray:
    """1 for white; in a file, 1 is black."""
    if header.kind == 4:
        row_bytes = (header.width + 7) // 8
        packed = np.frombuffer(data, np.uint8, header.height * row_bytes, header.offset)
        bits = np.unpackbits(packed.reshape(header.height, row_bytes), axis=1)
        return np.asarray(1 - bits[:, : header.width])
    digits = np.frombuffer(_COMMENT.sub(b"", data[header.offset :]), np.uint8)
    digits = digits[(digits == ord("0")) | (digits == ord("1"))]
    return np.asarray(ord("1") - digits[: header.height * header.width])


def _levels(data: bytes, header: NetpbmHeader, count: int) -> np.ndarray:
    if header.kind in (5, 6):
        return np.frombuffer(
            data, np.uint8 if header.maximum < 256 else ">u2", count, header.offset
        )
    if count > MAX_PLAIN_SAMPLES:
        raise DataError(f"a plain PGM or PPM of more than {MAX_PLAIN_SAMPLES:,} samples")
    body = _COMMENT.sub(b"", data[header.offset :])
    if not _NUMBERS.fullmatch(body):
        raise DataError("cannot be decoded: expected numbers up to 65535")
    # A number is a digit and a space at least.
    if len(body) < 2 * count - 1:
        raise DataError("cannot be decoded: truncated")
    return np.fromstring(body, np.int32, count, sep=" ")
