"""Encodes images as JPEG and WebP in at most a number of bytes, and latents in 8 bits.

What all files of a format share is not counted, just as the weights of a model, which all images
share, are not counted.
"""

import io
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from keras_ae.datasets.images.headers import JPEG_SCAN, jpeg_segments


class EncodedImage(NamedTuple):
    """The decoded image, uint8 [H, W, C], the bytes that are counted, and the encoder's quality."""

    pixels: np.ndarray
    size: int
    quality: int


def encode_jpeg(image: np.ndarray, max_bytes: int) -> EncodedImage | None:
    """Encodes the JPEG of the highest quality that fits, with 4:2:0 or 4:4:4 chroma.

    Only the entropy-coded data of the scan are counted (ITU-T T.81, B.1.1.5), up to the end marker.
    Headers, quantization tables and Huffman tables are not counted: they are the standard tables of
    annex K, the quantization tables scaled by the quality.

    Images are uint8 [H, W, 1 or 3]. The result is None if not even the lowest quality fits.
    """
    candidates = (
        _highest_quality(
            image, max_bytes, _jpeg_size, range(1, 101), format="JPEG", subsampling=sampling
        )
        for sampling in ("4:2:0", "4:4:4")[: 2 if image.shape[2] == 3 else 1]
    )
    return min(
        filter(None, candidates), key=lambda c: _squared_error(c.pixels, image), default=None
    )


def encode_webp(image: np.ndarray, max_bytes: int) -> EncodedImage | None:
    """Encodes the lossy WebP of the highest quality that fits, with the slowest, best method.

    Only the data after the frame header of the VP8 bitstream are counted (RFC 6386, section 9.1;
    the container is RFC 9649): not the 20 bytes of RIFF and chunk headers, and not the 10 bytes of
    frame tag, start code and size.

    Images are uint8 [H, W, 1 or 3]; grey ones are stored as RGB. The result is None if not even the
    lowest quality fits, or for a side of more than 16,383 pixels.
    """
    if max(image.shape[:2]) > 16383:
        return None
    return _highest_quality(image, max_bytes, _webp_size, range(101), format="WEBP", method=6)


class Quantizer(NamedTuple):
    """Quantizes latents to 8 bits, each channel in a fixed range; the ends are float32 [c]."""

    low: np.ndarray
    high: np.ndarray

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """Maps float32 [..., c] to uint8 [..., c]; values outside the range are clipped."""
        share = (latents - self.low) / self._width
        levels: np.ndarray = np.round(np.clip(share, 0.0, 1.0) * 255.0)
        return levels.astype(np.uint8)

    def decode(self, levels: np.ndarray) -> np.ndarray:
        """Maps uint8 [..., c] to float32 [..., c]."""
        share = levels.astype(np.float32) / np.float32(255.0)
        latents: np.ndarray = self.low + share * self._width
        return latents.astype(np.float32)

    @property
    def _width(self) -> np.ndarray:
        return np.where(self.high > self.low, self.high - self.low, 1.0).astype(np.float32)


def fit_quantizer(latents: Iterable[np.ndarray]) -> Quantizer:
    """Fits the ranges to the minimum and maximum of each channel of latents, float32 [..., c]."""
    flat = [part.reshape(-1, part.shape[-1]) for part in latents]
    low = np.min([part.min(0) for part in flat], 0)
    high = np.max([part.max(0) for part in flat], 0)
    return Quantizer(low.astype(np.float32), high.astype(np.float32))


def _highest_quality(
    image: np.ndarray,
    max_bytes: int,
    size: Callable[[bytes], int],
    qualities: range,
    **options: object,
) -> EncodedImage | None:
    """Finds the highest quality that fits by bisection; sizes grow with quality almost always."""
    low, high, best = qualities.start, qualities.stop - 1, None
    while low <= high:
        quality = (low + high) // 2
        data = _encode(image, quality=quality, **options)
        if size(data) <= max_bytes:
            best, low = (data, quality), quality + 1
        else:
            high = quality - 1
    if best is None:
        return None
    data, quality = best
    return EncodedImage(_decode(data, image.shape[2]), size(data), quality)


def _encode(image: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, **options)
    return buffer.getvalue()


def _decode(data: bytes, channels: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def _jpeg_size(data: bytes) -> int:
    """Counts the bytes of the scan of a baseline JPEG with one scan."""
    offset = next(offset for marker, offset in jpeg_segments(data) if marker == JPEG_SCAN)
    length = int.from_bytes(data[offset + 2 : offset + 4], "big")
    # The markers of the scan and of the end, two bytes each, are not counted.
    return len(data) - offset - length - 4


def _webp_size(data: bytes) -> int:
    """Counts the bytes of the VP8 chunk of a simple lossy WebP after the frame header."""
    return int.from_bytes(data[16:20], "little") - 10


def _squared_error(pixels: np.ndarray, image: np.ndarray) -> float:
    return math.fsum(np.square(pixels.astype(np.float64) - image).sum((1, 2)).tolist())
