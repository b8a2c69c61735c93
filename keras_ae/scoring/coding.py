"""What JPEG and WebP make of an image in as many bytes as a latent takes, and latents in 8 bits.

Fair to the codecs: what is the same in every file of a kind, as a model's weights are the same for
every image, is not counted.
"""

import io
import math
import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_ae.datasets.images.headers import JPEG_SCAN, jpeg_segments

_JPEG_QUALITIES = range(1, 101)
_WEBP_QUALITIES = range(101)
_SUBSAMPLINGS = ("4:2:0", "4:4:4")


class Coded(NamedTuple):
    """An image through a codec.

    Attributes:
        pixels: uint8 [H, W, C], its reconstruction.
        size: bytes that count, see `jpeg` and `webp`.
        quality: of the encoder.
    """

    pixels: np.ndarray
    size: int
    quality: int


def jpeg(image: np.ndarray, most: int) -> Coded | None:
    """The JPEG of the highest quality that fits, with the better of 4:2:0 and 4:4:4 chroma.

    Only the entropy-coded data of the scan count (ITU-T T.81, B.1.1.5), up to the marker at the
    end: not headers, nor quantization tables, nor Huffman tables, which are the standard ones of
    annex K, the quantization tables scaled by the quality.

    Args:
        image: uint8 [H, W, 1 or 3].
        most: bytes.

    Returns:
        None where not even the lowest quality fits.
    """
    samplings = _SUBSAMPLINGS if image.shape[2] == 3 else _SUBSAMPLINGS[:1]
    found = []
    for sampling in samplings:

        def encode(quality: int, sampling: str = sampling) -> bytes:
            return _encoded(image, "JPEG", quality=quality, subsampling=sampling)

        coded = _best(encode, _jpeg_size, _JPEG_QUALITIES, most, image)
        if coded is not None:
            found.append(coded)
    return min(found, key=lambda coded: _squared_error(coded.pixels, image), default=None)


def webp(image: np.ndarray, most: int) -> Coded | None:
    """The lossy WebP of the highest quality that fits, by the encoder's most thorough method.

    Only what follows the frame header of the VP8 bitstream counts (RFC 6386, section 9.1; the
    container is RFC 9649): not the 20 bytes of RIFF and chunk headers, nor the 10 bytes of frame
    tag, start code and size.

    Args:
        image: uint8 [H, W, 1 or 3]; grey is stored as colour without any.
        most: bytes.

    Returns:
        None where not even the lowest quality fits, or for a side of more than 16,383 pixels.
    """
    if max(image.shape[:2]) > 16383:
        return None

    def encode(quality: int) -> bytes:
        return _encoded(image, "WEBP", quality=quality, method=6)

    return _best(encode, _webp_size, _WEBP_QUALITIES, most, image)


class Quantizer(NamedTuple):
    """Latents to 8 bits and back, each channel in a range that is fixed beforehand.

    Attributes:
        low, high: float32 [c].
    """

    low: np.ndarray
    high: np.ndarray

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """float32 [..., c] -> uint8 [..., c]; what is beyond the range is clipped to it."""
        share = (latents - self.low) / self._width
        return np.round(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)

    def decode(self, numbers: np.ndarray) -> np.ndarray:
        """uint8 [..., c] -> float32 [..., c]."""
        share = numbers.astype(np.float32) / np.float32(255.0)
        return (self.low + share * self._width).astype(np.float32)

    @property
    def _width(self) -> np.ndarray:
        return np.where(self.high > self.low, self.high - self.low, 1.0).astype(np.float32)


def quantizer(latents: Iterable[np.ndarray]) -> Quantizer:
    """From the least to the greatest number in each channel of some latents, float32 [..., c]."""
    flat = [part.reshape(-1, part.shape[-1]) for part in latents]
    low = np.min([part.min(0) for part in flat], 0)
    high = np.max([part.max(0) for part in flat], 0)
    return Quantizer(low.astype(np.float32), high.astype(np.float32))


def _best(
    encode: Callable[[int], bytes],
    size: Callable[[bytes], int],
    qualities: range,
    most: int,
    image: np.ndarray,
) -> Coded | None:
    """By bisection: bytes grow with quality, but for single ones that do not matter."""
    low, high, best = qualities.start, qualities.stop - 1, None
    while low <= high:
        quality = (low + high) // 2
        data = encode(quality)
        if size(data) <= most:
            best, low = (data, quality), quality + 1
        else:
            high = quality - 1
    if best is None:
        return None
    data, quality = best
    return Coded(_decoded(data, image.shape[2]), size(data), quality)


def _encoded(image: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, kind, **options)
    return buffer.getvalue()


def _decoded(data: bytes, channels: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def _jpeg_size(data: bytes) -> int:
    """Bytes of the scan of a baseline JPEG of one scan."""
    at = next(at for marker, at in jpeg_segments(data) if marker == JPEG_SCAN)
    (length,) = struct.unpack_from(">H", data, at + 2)
    # Without the two markers, of two bytes each: of the scan and of the end.
    return len(data) - at - int(length) - 4


def _webp_size(data: bytes) -> int:
    """Bytes of the VP8 chunk of a simple lossy WebP after the frame header."""
    length = struct.unpack("<I", data[16:20])[0]
    return int(length) - 10


def _squared_error(pixels: np.ndarray, image: np.ndarray) -> float:
    return math.fsum(np.square(pixels.astype(np.float64) - image).sum((1, 2)).tolist())
