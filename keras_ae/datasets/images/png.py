"""PNGs of arrays with 8 or 16 bits."""

import io
import struct
import zlib
from typing import Final

import numpy as np
from PIL import Image

_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES: Final = {1: 0, 2: 4, 3: 2, 4: 6}
_FILTER_UP: Final = 2
_LEVEL: Final = 1
"""Of zlib: higher levels take several times longer and save little."""


def encode_png(pixels: np.ndarray) -> bytes:
    """Encodes an image without loss.

    Args:
        pixels: uint8 or uint16 array [H, W] or [H, W, C], C 1 to 4 (grey, grey and alpha, RGB,
            RGBA).

    >>> encode_png(np.zeros((2, 3), np.uint8))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
    """
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype != np.uint8:
        # Pillow has no 16-bit colours.
        return _encode_deep(pixels)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=_LEVEL)
    return buffer.getvalue()


def _encode_deep(pixels: np.ndarray) -> bytes:
    height, width = pixels.shape[:2]
    colour_type = _COLOUR_TYPES[pixels.shape[-1] if pixels.ndim == 3 else 1]
    rows = np.ascontiguousarray(pixels, ">u2").reshape(height, -1).view(np.uint8)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _FILTER_UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(filtered.tobytes(), _LEVEL), b"IEND": b""}
    return _MAGIC + b"".join(_chunk(kind, data) for kind, data in chunks.items())


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
