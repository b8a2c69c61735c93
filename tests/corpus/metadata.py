"""Images whose metadata take far more memory than the files, where Pillow reads them unchecked."""

import functools
import struct
import zlib

from tests.corpus.entries import ACCEPTED, Content
from tests.corpus.pictures import (
    chunk,
    encoded,
    exif_bomb,
    lossy_chunk,
    picture,
    png,
    riff,
    rows,
    segment,
    vp8x,
)

_REFUSED = "EXIF block whose values"
_EXIF = b"Exif\0\0"


@functools.cache
def metadata() -> dict[str, Content]:
    """The data and the expected outcome of each file, by name."""
    small, large = exif_bomb(4_900, 60_000), exif_bomb(60_000, 900_000)
    values = {
        "jpg": _jpeg(segment(0xE1, _EXIF + small)),
        "png": png(2, 2, rows(2, 2), chunk(b"eXIf", large)),
        "webp": _webp(large),
        "avif": _avif(large),
    }
    refused = {f"exif-of-many-values.{suffix}": data for suffix, data in values.items()}
    refused |= {
        "exif-in-several-segments.jpg": _jpeg(_segments(large)),
        # Pillow reads the segments inside of this one, which it does not know.
        "exif-in-an-extension.jpg": _jpeg(segment(0xC8, segment(0xE1, _EXIF + small))),
        "exif-with-two-marks.jpg": _jpeg(segment(0xE1, 2 * _EXIF + small)),
        "exif-with-two-marks.webp": _webp(2 * _EXIF + large),
        "exif-behind-the-pixels.png": _behind_pixels(large),
        "exif-as-text.png": png(2, 2, rows(2, 2), _raw_profile(exif_bomb(6_000, 100_000))),
        "exif-of-many-orientations.png": png(
            2, 2, rows(2, 2), chunk(b"eXIf", _orientations(5_000_000))
        ),
    }
    pictures = _jpeg(segment(0xE2, b"MPF\0" + small))
    return {
        **{name: (data, _REFUSED) for name, data in refused.items()},
        "list-of-many-values.mpo": (pictures, ACCEPTED),
    }


def _jpeg(part: bytes) -> bytes:
    jpeg = encoded(picture(8, 16, 16), "JPEG")
    return jpeg[:2] + part + jpeg[2:]


def _webp(exif: bytes) -> bytes:
    return riff(vp8x(12, 10, 8), lossy_chunk(), (b"EXIF", exif))


def _avif(exif: bytes) -> bytes:
    # Pillow would read the block to write it.
    harmless = b"MM\0*\0\0\0\x08".ljust(len(exif), b"\0")
    data = encoded(picture(), "AVIF", exif=_EXIF + harmless)
    assert harmless in data
    return data.replace(harmless, exif)


def _segments(exif: bytes) -> bytes:
    parts = (exif[i : i + 65_000] for i in range(0, len(exif), 65_000))
    return b"".join(segment(0xE1, _EXIF + part) for part in parts)


def _behind_pixels(exif: bytes) -> bytes:
    image, end = png(2, 2, rows(2, 2)), chunk(b"IEND")
    return image.removesuffix(end) + chunk(b"eXIf", exif) + end


def _raw_profile(exif: bytes) -> bytes:
    """The chunk in which ImageMagick writes EXIF data, compressed."""
    text = b"\nexif\n%8d\n" % len(exif) + exif.hex().encode()
    return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))


def _orientations(count: int) -> bytes:
    """An EXIF block with as many orientations, as fractions."""
    tag = struct.pack(">HHII", 0x0112, 5, count, 8)
    return b"MM\0*\0\0\0\x08\0\x01" + tag + bytes(8 * count)
