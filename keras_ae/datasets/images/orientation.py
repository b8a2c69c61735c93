"""The EXIF orientation of an image, read after its EXIF block was checked."""

import io
from contextlib import suppress
from typing import Any, Final

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from keras_ae.datasets.images.structure import ORIENTATION, check_exif

UPRIGHT: Final = 1
TRANSPOSES: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by its orientation."""
_RAW_PROFILE = "Raw profile type exif"
_PNG_MARKERS = (b"eXIf", _RAW_PROFILE.encode(), b"XML:com.adobe.xmp")
"""Every PNG with an EXIF orientation contains one of these."""


class _JpegFile(JpegImageFile):
    """A JPEG or the first picture of an MPO, whose metadata Pillow does not read by itself."""

    def _read_dpi_from_exif(self) -> None:
        """Does nothing, so that the EXIF block can be checked before it is read."""


def open_unread(data: bytes, image_format: str) -> Image.Image:
    """Opens an image in Pillow, which neither decodes it nor reads its EXIF block unchecked.

    Args:
        data: the image.
        image_format: that of its header; not heic.

    Raises:
        DataError: if the EXIF block of an AVIF is rejected.
        Exception: any, if the image is invalid: the plugins of Pillow document none.
    """
    if image_format == "jpeg":
        return _JpegFile(io.BytesIO(data))
    if image_format == "avif":
        from PIL import _avif

        check_exif(_avif.AvifDecoder(data, "auto", 1).get_info()[4] or b"")
    return Image.open(io.BytesIO(data), formats=[image_format])


def read_orientation(image: Image.Image, data: bytes) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 if there is none or it is unreadable.

    For a PNG that may have one this decodes the image, since EXIF data may follow the pixels.

    Args:
        image: from `open_unread`.
        data: the encoded image.

    Raises:
        DataError: if the EXIF block is rejected.
        Exception: any, if a PNG cannot be decoded.
    """
    if isinstance(image, PngImageFile):
        if not any(marker in data for marker in _PNG_MARKERS):
            return UPRIGHT
        image.load()
    block = image.info.get("exif")
    with suppress(ValueError):
        if block is None and _RAW_PROFILE in image.info:
            # ImageMagick writes three lines, then hexadecimal digits.
            block = bytes.fromhex("".join(image.info[_RAW_PROFILE].split("\n")[3:]))
    check_exif(block or b"")
    with suppress(Exception):
        value: Any = image.getexif().get(ORIENTATION)
        return int(value) if value in range(1, 9) else UPRIGHT
    return UPRIGHT


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns pixels [H, W, C] upright.

    >>> turn(np.array([[[1], [2]]]), 6)[..., 0]
    array([[1],
           [2]])
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels
