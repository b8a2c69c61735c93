"""Images with more than 8 bits per sample as PNG: 16 bits stay 16, so that the model scales them.

Pillow decodes the upper byte of 16-bit colours only, and writes no such PNG.
"""

import struct
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from keras_ae.errors import DataError

from .formats import open_checked

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

PNG_DEPTH, PNG_COLOUR_TYPE = 24, 25
"""Offsets in a PNG."""
FULL_RANGE: Final = 2**16 - 1
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Colour types of PNG by the number of channels; grey with alpha is read as RGBA of 8 bits."""
_BLOCK_BYTES = 2**22
_BITS, _PHOTOMETRIC, _PLANES = 258, 262, 284
_WHITE_IS_ZERO, _SEPARATE = 0, 2


def encode_png16(pixels: np.ndarray, transparency: Any = None) -> bytes:
    """Encodes a PNG with 16 bits per sample, with the fastest compression.

    Args:
        pixels: uint16 [H, W, C]: grey, grey and alpha, RGB or RGBA.
        transparency: the level, or the three levels, that is transparent.
    """
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", header)]
    if transparency is not None:
        levels = transparency if isinstance(transparency, tuple) else (transparency,)
        chunks.append(_chunk(b"tRNS", struct.pack(f">{len(levels)}H", *levels)))
    chunks += [_chunk(b"IDAT", _compress(pixels)), _chunk(b"IEND", b"")]
    return b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    size, checksum = len(data), zlib.crc32(data, zlib.crc32(kind))
    return b"".join((struct.pack(">I", size), kind, data, struct.pack(">I", checksum)))


def _compress(pixels: np.ndarray) -> bytes:
    """Rows as differences from the row above (filter 2), which compress better than levels."""
    compressor, parts = zlib.compressobj(1), []
    row_bytes = pixels.shape[1] * pixels.shape[2] * 2
    rows = max(1, _BLOCK_BYTES // row_bytes)
    above = np.zeros((1, row_bytes), np.uint8)
    for start in range(0, len(pixels), rows):
        block = np.ascontiguousarray(pixels[start : start + rows], ">u2")
        octets = block.view(np.uint8).reshape(-1, row_bytes)
        filtered = np.empty((len(octets), 1 + row_bytes), np.uint8)
        filtered[:, 0] = 2
        filtered[:, 1:] = octets - np.concatenate([above, octets[:-1]])
        parts.append(compressor.compress(filtered.tobytes()))
        above = octets[-1:]
    return b"".join((*parts, compressor.flush()))


def convert_numbers(pixels: np.ndarray, white: float | None) -> np.ndarray:
    """Scales floats, or 32-bit integers, to 8 bits: rounded and clipped, NaN becomes 0.

    Args:
        pixels: any shape.
        white: the value that becomes 255; None for 1 if all are floats of 0..1.

    Returns:
        uint8 array of that shape.

    Raises:
        DataError: with the range that was found, if `white` is needed.
    """
    if white is None:
        low, high = pixels.min(), pixels.max()
        if pixels.dtype.kind != "f":
            found = f"{8 * pixels.itemsize}-bit integer levels from {low} to {high}"
        elif not (low >= 0 and high <= 1):
            found = f"floating-point levels from {low:g} to {high:g}, expected 0 to 1"
        else:
            found = ""
        if found:
            raise DataError(f"{found}: give the level of white with --white LEVEL (white=LEVEL)")
    scaled = np.nan_to_num(pixels.astype(np.float64) * (255 / (white or 1)), posinf=255, neginf=0)
    return np.floor(scaled.clip(0, 255) + 0.5).astype(np.uint8)


def is_deep_tiff(image: "ImageFile") -> bool:
    """Whether an opened TIFF has more than 8 bits per sample."""
    return max(image.tag_v2.get(_BITS, (1,))) > 8  # type: ignore[attr-defined]


def read_deep_tiff(data: bytes) -> np.ndarray:
    """Decodes a TIFF with more than 8 bits, turned by its orientation.

    Returns:
        [H, W, C] with C 1, 3 or 4: uint16, or int32 or float32 [H, W, 1] if it has such numbers.

    Raises:
        DataError: if it is of an unsupported kind.
        Exception: any other, if it cannot be decoded.
    """
    image = open_checked(data, "tiff")
    tags = image.tag_v2  # type: ignore[attr-defined]
    if image.mode in ("RGB", "RGBA"):
        if tags.get(_PLANES, 1) == _SEPARATE:
            raise _unsupported()
        return _both_bytes(lambda: open_checked(data, "tiff"))
    if not image.mode.startswith(("I", "F")):
        raise _unsupported()
    pixels = np.asarray(image)[..., None]
    if image.mode.startswith("I;16"):
        pixels = pixels.astype(np.uint16)
        if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            pixels = FULL_RANGE - pixels
    return pixels


def read_png16(data: bytes) -> tuple[np.ndarray, Any]:
    """Decodes a PNG with 16 bits.

    Returns:
        uint16 [H, W, C], and what is transparent, as `encode_png16` takes both.
    """
    colour_type = data[PNG_COLOUR_TYPE]
    if colour_type == _COLOUR_TYPES[2]:
        # Two samples of 16 bits are stored like four of 8 bits.
        header = data[16:PNG_DEPTH] + bytes([8, _COLOUR_TYPES[4]]) + data[26:29]
        data = data[:8] + _chunk(b"IHDR", header) + data[33:]
        octets = np.asarray(open_checked(data, "png"))
        return octets.view(">u2").astype(np.uint16), None
    image = open_checked(data, "png")
    transparency = image.info.get("transparency")
    if colour_type == _COLOUR_TYPES[1]:
        return np.asarray(image).astype(np.uint16)[..., None], transparency
    return _both_bytes(lambda: open_checked(data, "png")), transparency


def _both_bytes(open_image: Callable[[], "ImageFile"]) -> np.ndarray:
    """The 16-bit samples of a colour image, uint16 [H, W, C].

    Pillow decodes one byte of each sample. So it decodes the image twice: once with the byte order
    in which the first is the upper byte, once with the other.
    """
    upper, lower = open_image(), open_image()
    lower.tile = [_other_byte_order(tile) for tile in lower.tile]
    return np.asarray(np.asarray(upper).astype(np.uint16) << 8 | np.asarray(lower))


def _other_byte_order(tile: Any) -> Any:
    """A tile of which Pillow decodes the lower bytes.

    The last letter of its raw mode is the byte order: little, big, or that of the machine, which
    for all that this client runs on is little.
    """
    arguments = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    mode, *others = arguments
    if not str(mode).startswith(("RGB;16", "RGBA;16", "RGBX;16")):
        raise _unsupported()
    other = f"{mode[:-1]}{'L' if str(mode).endswith('B') else 'B'}"
    return tile._replace(args=(other, *others) if isinstance(tile.args, tuple) else other)


def _unsupported() -> DataError:
    return DataError(
        "a TIFF of an unsupported kind: separate planes, CMYK or associated alpha with more than "
        "8 bits; convert it to PNG"
    )
