"""The pixels of PBM, PGM and PPM files; Pillow would lose the levels of 16-bit ones."""

import re

import numpy as np

from keras_ae.datasets.images.netpbm import NetpbmHeader, read_netpbm_header
from keras_ae.errors import DataError

_COMMENT = re.compile(rb"#[^\r\n]*")
_SPACE = re.compile(rb"\s")
_BLOCK_BYTES = 2**20


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
