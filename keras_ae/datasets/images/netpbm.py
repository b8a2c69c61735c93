"""PBM, PGM and PPM, binary and plain; Pillow would lose the levels of 16-bit ones.

See https://netpbm.sourceforge.net/doc/ppm.html and its neighbours.
"""

import re
from typing import NamedTuple

import numpy as np

from keras_ae.errors import DataError

MAX_PLAIN_SAMPLES = 50_000_000
"""Maximum for a plain file, whose numbers are read by Python, about ten million in a second."""

_MAGIC = re.compile(rb"P[1-6][\s#]")
_TOKEN = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*(\d{1,10})(?=[\s#])")
_COMMENT = re.compile(rb"#[^\r\n]*")
_SPACE = re.compile(rb"\s")
_BLOCK_BYTES = 2**20


class NetpbmHeader(NamedTuple):
    """The header of a file.

    Attributes:
        kind: 1 to 6, the digit of its magic bytes.
        maximum: level of white, 1 to 65535.
        offset: offset of the first pixel.
    """

    kind: int
    height: int
    width: int
    maximum: int
    offset: int

    @property
    def samples(self) -> int:
        """Number of samples of a pixel, 1 or 3."""
        return 3 if self.kind in (3, 6) else 1


def is_netpbm(data: bytes) -> bool:
    """Whether data starts with the magic bytes of one of the six kinds."""
    return _MAGIC.match(data) is not None


def read_netpbm_header(data: bytes) -> NetpbmHeader:
    """Reads the header of a file with its magic bytes.

    Raises:
        DataError: if it is truncated or invalid.
    """
    kind, offset, numbers = data[1] - ord("0"), 2, []
    for _ in range(2 if kind in (1, 4) else 3):
        match = _TOKEN.match(data, offset)
        if match is None:
            raise DataError("the header is truncated")
        numbers.append(int(match[1]))
        offset = match.end()
    width, height, maximum = (*numbers, 1)[:3]
    if not 0 < maximum < 2**16:
        raise DataError(f"the header declares a level of white of {maximum}; expected 1 to 65535")
    return NetpbmHeader(kind, height, width, maximum, offset + 1)


def check_netpbm(data: bytes) -> None:
    """Rejects a file that has not enough bytes for its pixels, or too many plain numbers.

    Raises:
        DataError: if the file is rejected.
    """
    header = read_netpbm_header(data)
    samples = header.height * header.width * header.samples
    if header.kind in (2, 3) and samples > MAX_PLAIN_SAMPLES:
        raise DataError(f"a plain PGM or PPM of more than {MAX_PLAIN_SAMPLES:,} samples")
    needed = {1: samples, 2: 2 * samples - 1, 3: 2 * samples - 1}.get(header.kind)
    if needed is None:
        row_bytes = header.width * header.samples * (1 if header.maximum < 256 else 2)
        needed = header.height * ((header.width + 7) // 8 if header.kind == 4 else row_bytes)
    if len(data) - header.offset < needed:
        raise DataError("cannot be decoded: truncated")


def decode_netpbm(data: bytes) -> np.ndarray:
    """Decodes a file, of which `check_netpbm` approved.

    Returns:
        uint8 [H, W, C], with C 1 or 3, scaled to the file's level of white up to 255; or uint16 as
        in the file if that level is larger.

    Raises:
        DataError: if a plain file contains something else than numbers up to its level of white.
    """
    header = read_netpbm_header(data)
    shape = header.height, header.width, header.samples
    if header.kind in (1, 4):
        return np.asarray(_bits(data, header).reshape(shape) * np.uint8(255))
    if header.kind in (2, 3):
        levels = _plain_numbers(data[header.offset :], shape[0] * shape[1] * shape[2])
    else:
        dtype = np.uint8 if header.maximum < 256 else ">u2"
        count = shape[0] * shape[1] * shape[2]
        levels = np.frombuffer(data, dtype, count, header.offset)
    levels = np.minimum(levels, header.maximum).reshape(shape)
    if header.maximum > 255:
        return np.asarray(levels, np.uint16)
    if header.maximum < 255:
        scale = np.arange(header.maximum + 1) * 510 + header.maximum
        levels = (scale // (2 * header.maximum))[levels]
    return np.asarray(levels, np.uint8)


def _bits(data: bytes, header: NetpbmHeader) -> np.ndarray:
    """1 for white; in a file, 1 is black."""
    if header.kind == 4:
        row_bytes = (header.width + 7) // 8
        packed = np.frombuffer(data, np.uint8, header.height * row_bytes, header.offset)
        bits = np.unpackbits(packed.reshape(header.height, row_bytes), axis=1)
        return np.asarray(1 - bits[:, : header.width])
    digits = np.frombuffer(_COMMENT.sub(b"", data[header.offset :]), np.uint8)
    digits = digits[(digits == ord("0")) | (digits == ord("1"))]
    if digits.size < header.height * header.width:
        raise DataError("cannot be decoded: truncated")
    return np.asarray(ord("1") - digits[: header.height * header.width])


def _plain_numbers(body: bytes, count: int) -> np.ndarray:
    body = _COMMENT.sub(b"", body)
    levels, filled, offset = np.empty(count, np.uint16), 0, 0
    while filled < count and offset < len(body):
        space = _SPACE.search(body, offset + _BLOCK_BYTES)
        end = space.start() if space else len(body)
        try:
            numbers = np.array([int(token) for token in body[offset:end].split()], np.uint16)
        except (ValueError, OverflowError) as error:
            raise DataError("cannot be decoded: expected numbers up to 65535") from error
        numbers = numbers[: count - filled]
        levels[filled : filled + len(numbers)] = numbers
        filled, offset = filled + len(numbers), end
    if filled < count:
        raise DataError("cannot be decoded: truncated")
    return levels
