"""Images with more than 8 bits per sample, whose levels Pillow alone would lose."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.ImageFile import _Tile
from PIL.TiffImagePlugin import TiffImageFile

from keras_ae.datasets.images import levels, tiff
from keras_ae.datasets.images.headers import Header
from keras_ae.datasets.images.netpbm import read_netpbm_header
from keras_ae.datasets.images.netpbm_pixels import decode_netpbm
from keras_ae.datasets.images.orientation import open_unread, read_orientation, turn
from keras_ae.errors import DataError

PNG_DEPTH, PNG_COLOUR_TYPE = 24, 25
"""Offsets in a PNG."""
_WHITE_IS_ZERO, _SEPARATE = 0, 2


class DeepPixels(NamedTuple):
    """The pixels of an image before its levels are scaled.

    Attributes:
        colours: [H, W, C], C 1 or 3: uint16, or int32 or float32 if the file has such numbers.
        alpha: uint8 [H, W, 1]; None for an opaque image.
    """

    colours: np.ndarray
    alpha: np.ndarray | None = None

    @property
    def is_sixteen_bit(self) -> bool:
        """Whether the levels are in the range of a 16-bit file."""
        return self.colours.dtype == np.uint16

    def own_range(self) -> int:
        """White of the smallest range that contains the visible levels of a 16-bit image."""
        colours = self.colours
        if self.alpha is not None:
            colours = colours[self.alpha[..., 0] > 0]
        return levels.smallest_range(int(colours.max(initial=0)))

    def scale(self, white: float) -> Image.Image:
        """Scales the levels to 8 bits: mode L or RGB, or RGBA for an image with alpha.

        Args:
            white: the level that becomes 255.
        """
        if self.is_sixteen_bit:
            colours = levels.scale_table(levels.whole(white))[self.colours]
        else:
            colours = levels.scale_numbers(self.colours, white)
        if self.alpha is None:
            return Image.fromarray(colours[..., 0] if colours.shape[-1] == 1 else colours)
        height, width = colours.shape[:2]
        rgb = np.broadcast_to(colours, (height, width, 3))
        return Image.fromarray(np.concatenate([rgb, self.alpha], -1))


def read_deep(data: bytes, header: Header) -> DeepPixels | None:
    """Decodes an image with more than 8 bits per sample; returns None for any other.

    It is turned by its orientation.

    Raises:
        DataError: if the image cannot be decoded, or is of an unsupported kind.
    """
    if header.format == "png" and data[PNG_DEPTH] == 16:
        return _read_png(data)
    if header.format == "ppm" and read_netpbm_header(data).maximum > 255:
        return DeepPixels(decode_netpbm(data))
    if header.format == "tiff":
        directory = tiff.first_directory(data)
        if max(directory.values.get(tiff.BITS, (1,))) > 8:
            return _read_tiff(data, directory)
    return None


def _read_png(data: bytes) -> DeepPixels:
    import tensorflow as tf

    # Pillow has no 16-bit colours. The same decoder is in the graph of the SavedModel.
    is_grey = data[PNG_COLOUR_TYPE] == 0 and b"tRNS" not in data
    try:
        pixels = tf.io.decode_png(data, channels=1 if is_grey else 4, dtype=tf.uint16).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise DataError("cannot be decoded: truncated or corrupt") from error
    pixels = turn(pixels, read_orientation(open_unread(data, "png"), data))
    if is_grey:
        return DeepPixels(pixels)
    alpha = levels.scale_table(levels.FULL_RANGE)[pixels[..., 3:]]
    return DeepPixels(pixels[..., :3], None if alpha.min() == 255 else alpha)


def _read_tiff(data: bytes, directory: tiff.Directory) -> DeepPixels:
    image = _open_tiff(data)
    if image.mode in ("RGB", "RGBA"):
        pixels = _read_tiff_colours(data, directory)
        if image.mode == "RGB":
            return DeepPixels(pixels)
        alpha = levels.scale_table(levels.FULL_RANGE)[pixels[..., 3:]]
        return DeepPixels(pixels[..., :3], alpha)
    if not image.mode.startswith(("I", "F")):
        raise _unsupported()
    pixels = np.asarray(image)[..., None]
    if image.mode.startswith("I;16"):
        pixels = pixels.astype(np.uint16)
        if directory.first(tiff.PHOTOMETRIC) == _WHITE_IS_ZERO:
            pixels = levels.FULL_RANGE - pixels
    return DeepPixels(pixels)


def _read_tiff_colours(data: bytes, directory: tiff.Directory) -> np.ndarray:
    """The 16-bit samples of a colour TIFF, uint16 [H, W, C].

    Pillow decodes one byte of each sample. So it decodes the image twice: once with the byte order
    in which the first is the upper byte, once with the other.
    """
    if directory.first(tiff.PLANES, 1) == _SEPARATE:
        raise _unsupported()
    upper, lower = _open_tiff(data), _open_tiff(data)
    lower.tile = [_other_byte_order(tile) for tile in lower.tile]
    return np.asarray(np.asarray(upper).astype(np.uint16) << 8 | np.asarray(lower))


def _other_byte_order(tile: _Tile) -> _Tile:
    """A tile of which Pillow decodes the lower bytes.

    The last letter of its raw mode is the byte order: little, big, or that of the machine, which
    for all that TensorFlow runs on is little.
    """
    mode, *others = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    if not str(mode).startswith(("RGB;16", "RGBA;16", "RGBX;16")):
        raise _unsupported()
    order = "L" if str(mode).endswith("B") else "B"
    return tile._replace(args=(f"{mode[:-1]}{order}", *others))


def _open_tiff(data: bytes) -> TiffImageFile:
    image = Image.open(io.BytesIO(data), formats=["tiff"])
    if not isinstance(image, TiffImageFile):
        raise _unsupported()
    return image


def _unsupported() -> DataError:
    return DataError(
        "a TIFF of an unsupported kind: separate planes, CMYK or associated alpha with more than "
        "8 bits"
    )
