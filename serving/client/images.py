"""Conversion of the images that callers pass to what requests carry, and of PNG to pixels."""

import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import numpy as np

from keras_ae.errors import DataError, InvalidRequestError

from .formats import CONVERTED, HEAD_BYTES, MAX_BYTES, detect_format, open_header

Image = np.ndarray | bytes | str | os.PathLike[str]
Images = Image | Sequence[Image]
Item = np.ndarray | bytes | Path
"""One image: uint8 [H, W, C], or an encoded image in memory or in a file."""
Arrays = TypeVar("Arrays", np.ndarray, Sequence[np.ndarray])
"""One array for images of one size, or a sequence of an array for each image."""

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_GROWTH, _OTHER_GROWTH = 2, 16
"""Estimated size of the returned PNG, relative to that of a PNG or another file that is sent."""
_CONVERTED_BYTES = 4
"""Estimated bytes for a pixel of an image that is sent as PNG."""
_EXPECTED_IMAGES = (
    "expected a uint8 array [N, H, W, C] with C 1 or 3, a path, the bytes of an image file, or a "
    "list of paths, bytes or uint8 arrays [H, W, C]"
)


def to_items(images: Images) -> tuple[list[Item], bool]:
    """Returns the images as a list, and whether they were one array. Files are not read yet.

    Raises:
        InvalidRequestError: if a type, dtype or rank is not supported, or a size is 0.
    """
    if isinstance(images, np.ndarray):
        return list(check_array(images, 4)), True
    if isinstance(images, bytes | bytearray | memoryview | str | os.PathLike):
        return [_to_item(images)], False
    if not isinstance(images, Sequence):
        raise InvalidRequestError(f"{_EXPECTED_IMAGES}; got {type(images).__name__}")
    return [_to_item(image) for image in images], False


def to_arrays(images: np.ndarray | Sequence[np.ndarray]) -> tuple[list[np.ndarray], bool]:
    """Does the same as `to_items`, but accepts arrays only."""
    items, is_one_array = to_items(images)
    if not all(isinstance(item, np.ndarray) for item in items):
        raise InvalidRequestError(
            "expected a uint8 array [N, H, W, C] with C 1 or 3, or a list of [H, W, C]; got paths "
            "or bytes: decode them first"
        )
    return [item for item in items if isinstance(item, np.ndarray)], is_one_array


def check_array(array: np.ndarray, rank: int) -> np.ndarray:
    """Returns the array unchanged if it holds pixels.

    Raises:
        InvalidRequestError: unless it is uint8 of that rank, with 1 or 3 channels.
    """
    shape = "[N, H, W, C]" if rank == 4 else "[H, W, C]"
    if array.dtype != np.uint8:
        hint = "; multiply 0..1 by 255 and round" if array.dtype.kind == "f" else ""
        raise InvalidRequestError(f"expected pixels of uint8, 0..255; got {array.dtype}{hint}")
    if array.ndim != rank:
        hint = ": for one image send image[None]" if (rank, array.ndim) == (4, 3) else ""
        raise InvalidRequestError(f"expected an array {shape}; got {list(array.shape)}{hint}")
    if array.shape[-1] not in (1, 3):
        raise InvalidRequestError(f"expected 1 or 3 channels, last; got {list(array.shape)}")
    if 0 in array.shape[-3:]:
        raise InvalidRequestError(f"expected at least one pixel; got {list(array.shape)}")
    return array


def _to_item(image: object) -> Item:
    if isinstance(image, np.ndarray):
        return check_array(image, 3)
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return Path(image)
    raise InvalidRequestError(f"{_EXPECTED_IMAGES}; got {type(image).__name__} in it")


def measure(item: Item) -> tuple[int, int]:
    """Estimates the bytes of an image in a request or in its response, whichever is larger.

    The response has a PNG, which is larger than the JPEG or WebP file that was sent.

    Returns:
        The bytes; height times width, of a file from its header, 0 if that cannot be read.

    Raises:
        DataError: if a file cannot be read.
    """
    if isinstance(item, np.ndarray):
        return item.nbytes, math.prod(item.shape[:2])
    try:
        with io.BytesIO(item) if isinstance(item, bytes) else item.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            image_format = detect_format(file.read(HEAD_BYTES))
            pixels = _count_pixels(file, image_format)
    except OSError as error:
        raise _unreadable(item, error) from error
    growth = _PNG_GROWTH if image_format in ("png", "tiff", "ppm") else _OTHER_GROWTH
    return max(size * growth, _CONVERTED_BYTES * pixels * (image_format in CONVERTED)), pixels


def _count_pixels(file: BinaryIO, image_format: str | None) -> int:
    if image_format is None:
        return 0
    file.seek(0)
    # Whatever is wrong with a file is in the status of its image.
    with suppress(Exception):
        width, height = open_header(file, image_format).size
        return int(width * height)
    return 0


def read(item: Item) -> bytes:
    """Returns an image as the bytes of an image file, which is not converted.

    Raises:
        DataError: if a file cannot be read, or has more than `MAX_BYTES`.
    """
    if isinstance(item, np.ndarray):
        return encode_png(item)
    if isinstance(item, bytes):
        return item
    try:
        size = item.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{item}: {size:,} bytes are more than the limit of {MAX_BYTES:,}")
        return item.read_bytes()
    except OSError as error:
        raise _unreadable(item, error) from error


def _unreadable(item: bytes | Path, error: OSError) -> DataError:
    return DataError(f"cannot read {item!s:.200}: {error.strerror}")


def encode_png(image: np.ndarray) -> bytes:
    """Encodes a uint8 array [H, W, C] with C 1 or 3 as PNG, with the fastest compression."""
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    Pillow.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """Decodes a grey or RGB PNG to a uint8 array [H, W, C] with C 1 or 3.

    Raises:
        ValueError: if it is not a PNG.
    """
    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(data), formats=["PNG"]) as image:
            pixels = np.array(image)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"not a PNG: {error}") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def split_into_batches(
    sizes: Iterable[tuple[int, int]], max_bytes: int, max_pixels: int, max_images: int
) -> Iterator[list[int]]:
    """Splits a sequence of images into batches for one request each; yields their indices in order.

    A batch has at least one image, even if that alone exceeds the limits.

    Args:
        sizes: estimated bytes and pixels of each image; consumed as the batches are.
        max_bytes, max_pixels, max_images: limits of a batch.
    """
    batch: list[int] = []
    batch_bytes = batch_pixels = 0
    for index, (image_bytes, image_pixels) in enumerate(sizes):
        batch_bytes, batch_pixels = batch_bytes + image_bytes, batch_pixels + image_pixels
        if batch and (
            batch_bytes > max_bytes or batch_pixels > max_pixels or len(batch) >= max_images
        ):
            yield batch
            batch, batch_bytes, batch_pixels = [], image_bytes, image_pixels
        batch.append(index)
    if batch:
        yield batch
