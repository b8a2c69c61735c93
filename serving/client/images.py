"""Images as a caller has them, and PNG as the wire has them."""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from keras_ae.errors import DataError, InvalidRequestError

Image = np.ndarray | bytes | str | os.PathLike[str]
Images = Image | Sequence[Image]
Item = np.ndarray | bytes | Path
"""One image: uint8 [H, W, C], or encoded, in memory or in a file."""

PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_GROWTH, _GROWTH = 2, 16
_EXPECTED = (
    "expected a uint8 array [N, H, W, C] with C 1 or 3, a path, the bytes of an image file, or a "
    "list of paths, bytes or uint8 arrays [H, W, C]"
)


def collect(images: Images) -> tuple[list[Item], bool]:
    """The images one by one, and whether they came as one array; nothing is read yet.

    Raises:
        InvalidRequestError: for another type, dtype or rank, or sizes of 0; says which.
    """
    if isinstance(images, np.ndarray):
        return list(check_array(images, 4)), True
    if isinstance(images, bytes | bytearray | memoryview | str | os.PathLike):
        return [_item(images)], False
    if not isinstance(images, Sequence):
        raise InvalidRequestError(f"{_EXPECTED}; got {type(images).__name__}")
    return [_item(image) for image in images], False


def collect_arrays(arrays: np.ndarray | Sequence[np.ndarray]) -> tuple[list[np.ndarray], bool]:
    """As `collect`, of arrays only."""
    items, together = collect(arrays)
    if not all(isinstance(item, np.ndarray) for item in items):
        raise InvalidRequestError(
            "expected a uint8 array [N, H, W, C] with C 1 or 3, or a list of [H, W, C]; got paths "
            "or bytes: decode them first"
        )
    return [item for item in items if isinstance(item, np.ndarray)], together


def check_array(array: np.ndarray, rank: int) -> np.ndarray:
    """The array, if it holds pixels.

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


def _item(image: object) -> Item:
    if isinstance(image, np.ndarray):
        return check_array(image, 3)
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return Path(image)
    raise InvalidRequestError(f"{_EXPECTED}; got {type(image).__name__} in it")


def weight(item: Item) -> int:
    """About how many bytes a request and its answer take, the larger of them.

    An answer is a PNG: what came as JPEG or WebP grows.

    Raises:
        DataError: if a file cannot be read.
    """
    if isinstance(item, np.ndarray):
        return item.nbytes
    if isinstance(item, bytes):
        return len(item) * (_PNG_GROWTH if item.startswith(PNG) else _GROWTH)
    try:
        return item.stat().st_size * (_PNG_GROWTH if item.suffix.lower() == ".png" else _GROWTH)
    except OSError as error:
        raise DataError(f"cannot read {item}: {error.strerror}") from error


def area(item: Item) -> int:
    """Height times width, of a file by its header; 0 if that cannot be read."""
    if isinstance(item, np.ndarray):
        return item.shape[0] * item.shape[1]
    try:
        with io.BytesIO(item) if isinstance(item, bytes) else item.open("rb") as file:
            return _header_area(file)
    except Exception:
        # Whatever is wrong with a file, the server finds the words for it.
        return 0


def _header_area(file: BinaryIO) -> int:
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.GifImagePlugin import GifImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    # Pillow's own open warns of large images, to which the server gives a status.
    for kind in (PngImageFile, JpegImageFile, BmpImageFile, GifImageFile, WebPImageFile):
        file.seek(0)
        with suppress(SyntaxError):
            width, height = kind(file).size
            return width * height
    return 0


def encoded(item: Item) -> bytes:
    """The image as a file's bytes.

    Raises:
        DataError: if a file cannot be read.
    """
    if isinstance(item, np.ndarray):
        return encode_png(item)
    if isinstance(item, bytes):
        return item
    try:
        return item.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {item}: {error.strerror}") from error


def encode_png(image: np.ndarray) -> bytes:
    """uint8 [H, W, C] with C 1 or 3 as PNG, packed for speed."""
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    Pillow.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """The pixels of a grey or RGB PNG: uint8 [H, W, 1 or 3].

    Raises:
        ValueError: if it is none.
    """
    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(data), formats=["PNG"]) as image:
            pixels = np.array(image)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"not a PNG: {error}") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def chunks(
    sizes: Iterable[tuple[int, int]], max_weight: int, max_pixels: int, max_count: int
) -> Iterator[list[int]]:
    """Cuts a row of images into requests: their indices, in order.

    A request holds one image at least, however large it is.

    Args:
        sizes: `weight` and `area` of each image; read as the requests are taken.
        max_weight, max_pixels, max_count: of a request.
    """
    made: list[int] = []
    total = pixels = 0
    for index, (one, its_pixels) in enumerate(sizes):
        total, pixels = total + one, pixels + its_pixels
        if made and (total > max_weight or pixels > max_pixels or len(made) >= max_count):
            yield made
            made, total, pixels = [], one, its_pixels
        made.append(index)
    if made:
        yield made
