"""What a .kae file says before its code: who can decode it, and the sizes of image and latent."""

import struct
import zlib
from typing import NamedTuple

import numpy as np

from keras_ae.codec.steps import MAX_INDEX
from keras_ae.contract import MAX_PIXELS
from keras_ae.errors import ConfigurationError, DataError

MAGIC = b"\x89KAE"
VERSION = 1
MAX_CHANNELS = 1024
MAX_STRIDE = 255
MAX_VALUES_PER_BYTE = 8192
"""More values than this in a byte of code are impossible: the cheapest takes 1/1024 bit."""
_FORMAT = struct.Struct("<4sBBHI8sIIHBB")
_CHECKSUM = slice(8, 12)


class Header(NamedTuple):
    """What a file says about itself.

    Attributes:
        model_id: 8 bytes; only a decoder with the same id gives this image.
        width, height: of the image, in pixels.
        image_channels: 1 or 3.
        stride: pixels to a position of the latent, in each direction.
        steps: for each channel of the latent, the index of its quantisation step on the grid of
            `keras_ae.codec.steps`. Where a file is to be written: of the step by which to change
            the whole channel to alter the decoded image by one grey level (root mean square).
    """

    model_id: bytes
    width: int
    height: int
    image_channels: int
    stride: int
    steps: tuple[int, ...]
    quality: int = 0

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels of the latent."""
        return -(-self.height // self.stride), -(-self.width // self.stride), len(self.steps)


def check(header: Header) -> None:
    """Raises ConfigurationError, naming the field, if a file cannot have such a header."""
    if fault := _fault(header):
        raise ConfigurationError(fault)


def pack(header: Header, code: bytes) -> bytes:
    """The file of a checked header and its code, with the checksum."""
    fixed = _FORMAT.pack(
        MAGIC, VERSION, 0, len(header.steps), 0, header.model_id, header.width, header.height,
        header.stride, header.image_channels, header.quality,
    )  # fmt: skip
    data = fixed + np.array(header.steps, "<u2").tobytes() + code
    return seal(data)


def seal(data: bytes) -> bytes:
    """The data with the checksum that they should have."""
    return data[:8] + _checksum(data) + data[12:]


def unpack(data: bytes) -> tuple[Header, bytes]:
    """Checks a file, and splits it into header and code.

    Raises:
        DataError: if the data are not a .kae file of this version, were changed or truncated, or
            contradict themselves; the message says which.
    """
    if data[:4] != MAGIC:
        raise DataError("not a .kae file: it does not begin as one")
    if len(data) > 4 and data[4] != VERSION:
        raise DataError(f"a .kae file of version {data[4]}; this release reads version {VERSION}")
    if len(data) < _FORMAT.size:
        raise DataError(f"a truncated .kae file: {len(data)} bytes are less than its header")
    if data[_CHECKSUM] != _checksum(data):
        raise DataError("a damaged .kae file: it was changed or truncated (wrong checksum)")
    _, _, flags, channels, _, model_id, width, height, stride, colors, quality = (
        _FORMAT.unpack_from(data)
    )
    end = _FORMAT.size + 2 * channels
    if flags:
        raise DataError("a .kae file that uses what this release does not know (flags)")
    if len(data) < end:
        raise DataError(f"a .kae file of {channels} channels that ends before their steps")
    steps = np.frombuffer(data, "<u2", channels, _FORMAT.size)
    header = Header(model_id, width, height, colors, stride, tuple(steps.tolist()), quality)
    code = data[end:]
    if fault := _fault(header):
        raise DataError(f"a damaged .kae file: {fault}")
    values = int(np.prod([int(size) for size in header.latent_shape], dtype=object))
    if values > MAX_VALUES_PER_BYTE * (len(code) + 8):
        raise DataError(f"a damaged .kae file: {len(code)} bytes cannot hold {values} values")
    return header, code


def describe(header: Header, size: int) -> str:
    """Describes a file of `size` bytes in one line.

    >>> describe(Header(bytes(8), 768, 512, 3, 8, (2048,) * 8, quality=75), 12288)
    '768x512 RGB, 12,288 bytes, 0.25 bits per pixel, quality 75, model 0000000000000000'
    """
    colours = "grey" if header.image_channels == 1 else "RGB"
    bits = 8 * size / (header.width * header.height)
    quality = f", quality {header.quality}" if header.quality else ""
    return (
        f"{header.width}x{header.height} {colours}, {size:,} bytes, {bits:.3g} bits per pixel"
        f"{quality}, model {header.model_id.hex()}"
    )


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data[12:], zlib.crc32(data[:8])).to_bytes(4, "little")


def _fault(header: Header) -> str:
    width, height = header.width, header.height
    if len(header.model_id) != 8:
        return f"a model id has 8 bytes, not {len(header.model_id)}"
    if not (width > 0 < height and width * height <= MAX_PIXELS):
        return f"an image has 1 to {MAX_PIXELS} pixels, not {width}x{height}"
    if header.image_channels not in (1, 3):
        return f"an image has 1 or 3 channels, not {header.image_channels}"
    if not 0 <= header.quality <= 100:
        return f"a quality is 0 to 100, not {header.quality}"
    if not 0 < header.stride <= MAX_STRIDE:
        return f"a stride is 1 to {MAX_STRIDE}, not {header.stride}"
    if not 0 < len(header.steps) <= MAX_CHANNELS:
        return f"a latent has 1 to {MAX_CHANNELS} channels, not {len(header.steps)}"
    if not 0 <= min(header.steps) <= max(header.steps) <= MAX_INDEX:
        return f"a step's index is 0 to {MAX_INDEX}: {min(header.steps)} to {max(header.steps)}"
    return ""
