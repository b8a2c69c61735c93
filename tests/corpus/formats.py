"""Good images of every format, mode, depth, transparency and orientation that is taken.

    for sample in samples():
        ...

Ingest and a raw request to the server give the same pixels of each, but for those that `raw` names.
"""

import functools
import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from tests.corpus.pictures import encoded, png, riff, vp8x

SAME, REFUSED, NOT_TURNED, BLACK = "same", "refused", "not turned", "black"
WHITE = 4095
"""Level of white by which the samples with 16 bits are meant to be scaled."""
HEIGHT, WIDTH = 12, 10


class Sample(NamedTuple):
    """An encoded image.

    Attributes:
        name: name of a file.
        data: the encoded image.
        raw: what a raw request does: `SAME` pixels as ingest; `REFUSED`, because TensorFlow cannot
            decode it; `NOT_TURNED`; `BLACK` where it is transparent.
    """

    name: str
    data: bytes
    raw: str = SAME


@functools.cache
def samples() -> list[Sample]:
    """All samples, of `HEIGHT` x `WIDTH` pixels, or turned by 90 degrees."""
    return [
        *_plain(),
        *_transparent(),
        *_sixteen_bits(),
        *_turned(),
        *_animated(),
        *_converted(),
    ]


@functools.cache
def rgba() -> Image.Image:
    """The picture of most samples: smooth colours, and alpha that hides others."""
    rng = np.random.default_rng(1)
    small = Image.fromarray(rng.integers(0, 256, (3, 3, 4), np.uint8), "RGBA")
    pixels = np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).copy()
    pixels[:2, :, 3], pixels[2:4, :, 3] = 0, 255
    return Image.fromarray(pixels)


def _plain() -> Iterator[Sample]:
    rgb, grey = rgba().convert("RGB"), rgba().convert("L")
    for kind, suffix in (("PNG", "png"), ("BMP", "bmp"), ("JPEG", "jpg"), ("WEBP", "webp")):
        yield Sample(f"rgb.{suffix}", encoded(rgb, kind))
        yield Sample(f"grey.{suffix}", encoded(grey, kind))
    yield Sample("lossless.webp", encoded(rgb, "WEBP", lossless=True))
    yield Sample("bits.png", encoded(grey.convert("1"), "PNG"))
    yield Sample("palette.png", encoded(rgb.quantize(16), "PNG"))
    yield Sample("palette.bmp", encoded(rgb.quantize(16), "BMP"))
    yield Sample("palette.gif", encoded(rgb.quantize(16), "GIF"))
    yield Sample("grey.gif", encoded(grey, "GIF"))
    yield Sample("progressive.jfif", encoded(rgb, "JPEG", progressive=True))
    yield Sample("two-pictures.mpo", encoded(rgb, "MPO", save_all=True, append_images=[grey]))


def _transparent() -> Iterator[Sample]:
    picture = rgba()
    rgb, grey = picture.convert("RGB"), picture.convert("L")
    palette = rgb.quantize(16)
    yield Sample("rgba.png", encoded(picture, "PNG"))
    yield Sample("grey-alpha.png", encoded(picture.convert("LA"), "PNG"))
    yield Sample("one-colour.png", encoded(rgb, "PNG", transparency=rgb.getpixel((3, 3))))
    yield Sample("one-grey.png", encoded(grey, "PNG", transparency=grey.getpixel((3, 3))))
    yield Sample("one-index.png", encoded(palette, "PNG", transparency=3))
    yield Sample("indices.png", encoded(palette, "PNG", transparency=bytes(range(0, 256, 16))))
    yield Sample("one-bit.png", encoded(grey.convert("1"), "PNG", transparency=0))
    yield Sample("two-bits.png", _grey_of_two_bits())
    yield Sample("rgba.webp", encoded(picture, "WEBP"))
    yield Sample("rgba-lossless.webp", encoded(picture, "WEBP", lossless=True, exact=True))
    yield Sample("rgba.bmp", encoded(picture, "BMP"))
    yield Sample("masks.bmp", _bmp_with_alpha())
    yield Sample("one-index.gif", encoded(palette, "GIF", transparency=3), BLACK)


def _grey_of_two_bits() -> bytes:
    """A grey PNG with four levels, of which the second is transparent."""
    import zlib

    from tests.corpus.pictures import chunk

    row = b"\0" + bytes([0b00011011, 0b11100100, 0b01010000])
    transparency = chunk(b"tRNS", b"\0\1")
    data = zlib.compress(row * HEIGHT)
    return png(WIDTH, HEIGHT, data, transparency, depth=2, colour=0)


def _bmp_with_alpha() -> bytes:
    """A BMP with masks for colours and alpha, as graphics programs write it."""
    import struct

    pixels = np.asarray(rgba())[::-1, :, [2, 1, 0, 3]].tobytes()
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 108, WIDTH, HEIGHT, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    info = (info + masks).ljust(108, b"\0")
    start = 14 + len(info)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + info + pixels


def _sixteen_bits() -> Iterator[Sample]:
    """Levels of 12 bits, and some above."""
    rng = np.random.default_rng(2)
    levels = rng.integers(0, WHITE + 1, (HEIGHT, WIDTH, 4)).astype(np.uint16)
    levels[0, :3], levels[..., 3] = 60_000, rng.integers(0, 65_536, (HEIGHT, WIDTH))
    for channels in (1, 2, 3, 4):
        pixels = levels[..., [0, 3]] if channels == 2 else levels[..., :channels]
        data = tf.io.encode_png(pixels).numpy()
        yield Sample(f"16-bit-{channels}.png", data)
    for name, pixels in (("grey", levels[..., :1]), ("rgb", levels[..., :3])):
        plain = tf.io.encode_png(pixels).numpy()
        colour = b"".join(int(level).to_bytes(2, "big") for level in pixels[5, 5])
        yield Sample(f"16-bit-{name}-one.png", _insert_transparency(plain, colour))


def _insert_transparency(data: bytes, colour: bytes) -> bytes:
    from tests.corpus.pictures import chunk

    return data[:33] + chunk(b"tRNS", colour) + data[33:]


def _turned() -> Iterator[Sample]:
    rgb = rgba().convert("RGB")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        raw = SAME if orientation == 1 else NOT_TURNED
        yield Sample(f"turned-{orientation}.jpg", encoded(rgb, "JPEG", exif=exif.tobytes()), raw)
        yield Sample(f"turned-{orientation}.png", encoded(rgb, "PNG", exif=exif.tobytes()), raw)
        yield Sample(f"turned-{orientation}.webp", encoded(rgb, "WEBP", exif=exif.tobytes()), raw)
        yield Sample(
            f"turned-{orientation}.tiff", encoded(rgb, "TIFF", exif=exif.tobytes()), REFUSED
        )


def _animated() -> Iterator[Sample]:
    picture = rgba()
    frames = [picture.rotate(90 * i) for i in range(1, 3)]
    opaque = [frame.convert("RGB") for frame in frames]
    animation = {"save_all": True, "append_images": frames}
    plain = {"save_all": True, "append_images": opaque}
    rgb = picture.convert("RGB")
    yield Sample("animated.webp", encoded(rgb, "WEBP", **plain))
    yield Sample("animated-lossless.webp", encoded(rgb, "WEBP", lossless=True, **plain))
    yield Sample("animated-alpha.webp", encoded(picture, "WEBP", **animation))
    yield Sample(
        "animated-alpha-lossless.webp", encoded(picture, "WEBP", lossless=True, **animation)
    )
    yield Sample("animated-part.webp", _animated_part())
    yield Sample("animated.png", encoded(rgb, "PNG", **plain))
    yield Sample("animated.gif", encoded(rgb.quantize(16), "GIF", **plain))


def _animated_part() -> bytes:
    """An animated WebP whose first frame covers a part of its canvas."""
    part = encoded(rgba().crop((0, 0, 6, 4)), "WEBP", lossless=True)
    place = b"".join(n.to_bytes(3, "little") for n in (1, 2, 6 - 1, 4 - 1, 100)) + b"\0"
    frame = (b"ANMF", place + part[12:])
    return riff(vp8x(WIDTH, HEIGHT, 0x12), (b"ANIM", bytes(6)), frame, frame)


def _converted() -> Iterator[Sample]:
    """Images that TensorFlow cannot decode."""
    picture = rgba()
    rgb, grey = picture.convert("RGB"), picture.convert("L")
    deep = np.asarray(grey).astype(np.uint16) * 16
    buffer = io.BytesIO()
    import pillow_heif

    pillow_heif.from_pillow(rgb.resize((64, 64))).save(buffer)
    yield Sample("rgb.heic", buffer.getvalue(), REFUSED)
    yield Sample("rgb.avif", encoded(rgb, "AVIF"), REFUSED)
    yield Sample("rgba.avif", encoded(picture, "AVIF"), REFUSED)
    for mode, image in (("rgb", rgb), ("grey", grey), ("bits", grey.convert("1"))):
        yield Sample(f"{mode}.ppm", encoded(image, "PPM"), REFUSED)
        yield Sample(f"{mode}.tiff", encoded(image, "TIFF"), REFUSED)
    yield Sample("rgba.tiff", encoded(picture, "TIFF", compression="tiff_lzw"), REFUSED)
    yield Sample(
        "two-pages.tif", encoded(rgb, "TIFF", save_all=True, append_images=[grey]), REFUSED
    )
    yield Sample("16-bit.tiff", encoded(Image.fromarray(deep), "TIFF"), REFUSED)
    yield Sample("16-bit.pgm", b"P5 10 12 4095\n" + deep.astype(">u2").tobytes(), REFUSED)
    floats = Image.fromarray(np.asarray(grey, np.float32) / 255)
    yield Sample("float.tiff", encoded(floats, "TIFF"), REFUSED)
