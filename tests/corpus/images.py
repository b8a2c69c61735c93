"""Image files by what is wrong with them, or unusual though nothing is wrong."""

import functools
import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

from tests.corpus.entries import ARRIVES, SKIPPED, Content
from tests.corpus.pictures import (
    PNG,
    blocks,
    bmp,
    chunk,
    encoded,
    exif_bomb,
    gif,
    ihdr,
    picture,
    png,
    riff,
    rows,
    segment,
    vp8x,
)

DECODED = "cannot be decoded"
PIXELS = "more than the limit of 64,000,000 pixels"
NONE = "not a PNG, JPEG, BMP, GIF or WebP image"


@functools.cache
def images() -> dict[str, Content]:
    """Names, bytes, and what is to become of them."""
    return {**_good(), **_cut(), **_wrong(), **_bombs(), **_posing()}


def _good() -> dict[str, Content]:
    image = picture(1)
    grey = np.arange(0, 65536, 512, dtype="u2").reshape(8, 16)
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "a" * 100_000)
    frames = [picture(i).convert("P") for i in range(60)]
    exif = Image.Exif()
    exif[0x0112] = 6
    old_bmp = b"BM" + struct.pack("<IHHIIHHHH", 26 + 8, 0, 0, 26, 12, 2, 1, 1, 24) + bytes(8)
    good = {
        "plain.png": encoded(image, "PNG"),
        "plain.jpg": encoded(image, "JPEG"),
        "plain.gif": encoded(image, "GIF"),
        "plain.bmp": encoded(image, "BMP"),
        "plain.webp": encoded(image, "WEBP"),
        "one-pixel.png": encoded(picture(2, 1, 1), "PNG"),
        "wide.png": encoded(picture(3, 1, 5000), "PNG"),
        "rgba.png": encoded(image.convert("RGBA"), "PNG"),
        "grey-and-alpha.png": encoded(image.convert("LA"), "PNG"),
        "palette.png": encoded(image.convert("P"), "PNG"),
        "two-colours.png": encoded(image.convert("1"), "PNG"),
        "sixteen-bit.png": encoded(Image.fromarray(grey), "PNG"),
        "sixteen-bit-rgb.png": png(2, 1, zlib.compress(bytes(13)), depth=16),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
        "progressive.jpg": encoded(image, "JPEG", progressive=True),
        "turned.jpg": encoded(image, "JPEG", exif=exif.tobytes()),
        "turned.png": encoded(image, "PNG", exif=exif.tobytes()),
        "large-exif.jpg": encoded(image, "JPEG", exif=b"Exif\0\0" + bytes(60_000)),
        "large-profile.jpg": encoded(image, "JPEG", icc_profile=bytes(500_000)),
        "text.png": encoded(image, "PNG", pnginfo=text),
        "60-frames.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "60-frames.png": encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "60-frames.webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "lossless.webp": encoded(image, "WEBP", lossless=True),
        "oldest.bmp": old_bmp,
        "run-length.bmp": bmp(4, 2, 8, 1, b"\4\7\0\0\4\x09\0\1"),
        "top-down.bmp": bmp(1, -1, 24, 0, bytes(4)),
        "a-jpeg.png": encoded(image, "JPEG"),
        "a-png.JPEG": encoded(image, "PNG"),
        "junk-behind.png": encoded(picture(4), "PNG") + b"junk" * 1000,
        "and-a-zip.jpg": encoded(image, "JPEG") + _zip(),
        "and-a-script.gif": encoded(picture(5), "GIF") + b"/*<script>alert(1)</script>*/",
        "and-php.png": _behind_header(encoded(image, "PNG"), chunk(b"tEXt", b"c\0<?php exit();")),
    }
    return {name: (data, ARRIVES) for name, data in good.items()}


def _cut() -> dict[str, Content]:
    found: dict[str, Content] = {"empty.png": (b"", "empty"), "zeros.png": (bytes(4096), NONE)}
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP"):
        data = encoded(picture(6, 40, 50), kind)
        suffix = kind.lower()
        found[f"cut-in-the-mark.{suffix}"] = data[:2], NONE
        found[f"cut-in-the-header.{suffix}"] = data[:17], "cut short"
        found[f"cut-in-half.{suffix}"] = data[: len(data) // 2], DECODED
        found[f"last-bytes-missing.{suffix}"] = data[:-10], DECODED
        found[f"body-of-zeros.{suffix}"] = data[:60] + bytes(len(data) - 60), DECODED
    # These differ: the mark of a BMP is two bytes, a GIF's header 13, zeros are pixels of a BMP and
    # code of a WebP, and they are among a JPEG's tables.
    others = {
        "cut-in-the-mark.bmp": "cut short",
        "cut-in-the-header.gif": DECODED,
        "body-of-zeros.bmp": ARRIVES,
        "body-of-zeros.webp": ARRIVES,
        "body-of-zeros.jpeg": "cut short",
    }
    found |= {name: (found[name][0], why) for name, why in others.items()}
    return found


def _wrong() -> dict[str, Content]:
    image = encoded(picture(7), "PNG")
    jpeg = encoded(picture(7), "JPEG")
    tables = jpeg.index(b"\xff\xc4")
    dht = jpeg[: tables + 5] + b"\xff" * 16 + jpeg[tables + 21 :]
    return {
        "no-pixels.png": (png(0, 5, rows(1, 1)), "no pixels"),
        "no-pixels.gif": (gif(0, 0), "no pixels"),
        "no-pixels.jpg": (_sized(jpeg, 0, 0), "no pixels"),
        "negative.bmp": (bmp(-5, 5, 24, 0, bytes(75)), "no pixels"),
        "wrong-crc.png": (png(2, 2, rows(2, 2)).replace(b"IDAT", b"IDAt"), DECODED),
        "wrong-crc-of-text.png": (_behind_header(image, chunk(b"teXt", b"a", 1)), DECODED),
        "wrong-crc-of-pixels.png": (
            PNG + ihdr(2, 2) + chunk(b"IDAT", rows(2, 2), 1) + chunk(b"IEND"),
            DECODED,
        ),
        "no-pixel-data.png": (PNG + ihdr(2, 2) + chunk(b"IEND"), DECODED),
        "no-palette.png": (png(2, 2, rows(2, 2, 1), colour=3), DECODED),
        "no-such-colour.png": (png(2, 2, rows(2, 2), colour=5), DECODED),
        "no-such-depth.png": (png(2, 2, rows(2, 2), depth=3), DECODED),
        "chunk-of-4-gb.png": (image[:33] + b"\xff\xff\xff\xff" + image[37:], DECODED),
        "huffman-tables.jpg": (dht, DECODED),
        "no-tables.jpg": (jpeg[:2] + jpeg[jpeg.index(b"\xff\xc0") :], DECODED),
        "lengths-of-zero.jpg": (b"\xff\xd8\xff\xe0" + bytes(50), "cut short"),
        "arithmetic.jpg": (jpeg.replace(b"\xff\xc0", b"\xff\xcb", 1), DECODED),
        "no-frame.gif": (gif(5, 5)[:19] + b";", DECODED),
        "no-such-code-size.gif": (gif(5, 5).replace(b"\x02\x02\x4c", b"\xff\x02\x4c"), DECODED),
        "no-such-packing.bmp": (bmp(5, 5, 24, 77, bytes(80)), DECODED),
        "no-such-bits.bmp": (bmp(5, 5, 13, 0, bytes(80)), DECODED),
        "no-image.webp": (riff(vp8x(5, 5)), DECODED),
        "other-size-inside.webp": (riff(vp8x(5, 5), _lossy_chunk()), DECODED),
    }


def _bombs() -> dict[str, Content]:
    jpeg = encoded(picture(8, 16, 16), "JPEG", progressive=True)
    scan = jpeg.rindex(b"\xff\xda")
    zeros = zlib.compress(bytes(50_000_000), 9)
    many = (struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\0") * 20_000
    huge = {
        "60000x60000.png": png(60_000, 60_000, rows(10, 10)),
        "60000x60000.jpg": _sized(jpeg, 60_000, 60_000),
        "60000x60000.gif": gif(60_000, 60_000),
        "60000x60000.bmp": bmp(60_000, 60_000, 8, 0, bytes(100)),
        "16000x16000.webp": riff(vp8x(16_000, 16_000), _lossy_chunk()),
        "20000x20000-of-zeros.png": png(20_000, 20_000, rows(2_500, 20_000, 1), depth=1, colour=0),
        "frame-of-9000x9000.gif": gif(5, 5, frame=(9_000, 9_000)),
    }
    return {
        **{name: (data, PIXELS) for name, data in huge.items()},
        "frame-of-60000x60000.gif": (gif(5, 5, frame=(60_000, 60_000)), "exceeds limit"),
        "8000x8000-of-nothing.png": (png(8_000, 8_000, rows(10, 10)), "cannot hold 8000x8000"),
        "8000x8000-cut.png": (
            png(8_000, 8_000, rows(8_000, 8_000, 1), colour=0)[:-13],
            "truncated",
        ),
        "8000x8000-of-nothing.bmp": (bmp(8_000, 8_000, 24, 0, bytes(100)), "truncated"),
        "8000x8000-of-nothing.gif": (gif(8_000, 8_000), DECODED),
        "8000x8000-of-nothing.webp": (riff(vp8x(8_000, 8_000), (b"VP8L", _lossless())), DECODED),
        "8000x8000-of-nothing.jpg": (_sized(jpeg, 8_000, 8_000), "cannot hold 8000x8000"),
        "8000x8000-of-rows.bmp": (bmp(8_000, 8_000, 8, 1, b"\1\0\0\0" * 99), "run-length"),
        "60000000x1-of-one-run.bmp": (bmp(60_000_000, 1, 8, 1, b"\1\0\0\0\0\1"), "run-length"),
        "3000-scans.jpg": (jpeg[:scan] + jpeg[scan:-2] * 3000 + jpeg[-2:], "more than 100 scans"),
        "3000-scans-of-one-colour.jpg": (_scans_of_one_colour(3000), "more than 100 scans"),
        "9000-segments.jpg": (jpeg[:2] + segment(0xFE, b"a") * 9000 + jpeg[2:], "1,024 segments"),
        "exif-of-9-mb.jpg": (
            jpeg[:2] + segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 150 + jpeg[2:],
            "more than 16 parts",
        ),
        "fillers-of-20-mb.jpg": (jpeg[:2] + b"\xff" * 20_000_000 + jpeg[2:], "65,536 bytes"),
        "zeros-of-20-mb.jpg": (jpeg[:3] + bytes(20_000_000), "cut short"),
        "exif-of-many-values.jpg": (
            jpeg[:2] + segment(0xE1, b"Exif\0\0" + exif_bomb(4_900, 60_000)) + jpeg[2:],
            "EXIF block whose values",
        ),
        "exif-of-many-values.png": (
            png(2, 2, rows(2, 2), chunk(b"eXIf", exif_bomb(60_000, 900_000))),
            "EXIF block whose values",
        ),
        "exif-of-many-values.webp": (
            riff(vp8x(12, 10, 8), _lossy_chunk(), (b"EXIF", exif_bomb(60_000, 900_000))),
            "EXIF block whose values",
        ),
        "text-of-50-mb.png": (
            png(2, 2, rows(2, 2), chunk(b"zTXt", b"c\0\0" + zeros)),
            DECODED,
        ),
        "profile-of-50-mb.png": (
            png(2, 2, rows(2, 2), chunk(b"iCCP", b"c\0\0" + zeros)),
            DECODED,
        ),
        "pixels-of-50-mb-in-2x2.png": (png(2, 2, zeros), ARRIVES),
        "120000-chunks.png": (png(2, 2, rows(2, 2), chunk(b"teSt") * 120_000), "20,000 chunks"),
        "90000-texts.png": (
            png(2, 2, rows(2, 2), chunk(b"tEXt", b"c\0a") * 90_000),
            "20,000 chunks",
        ),
        "comment-of-20-mb.gif": (gif(5, 5, b"!\xfe", blocks(bytes(20_000_000))), "1,048,576 bytes"),
        "comment-of-tiny-blocks.gif": (
            gif(5, 5, b"!\xfe", blocks(bytes(500_000), 1)),
            "16,384 blocks",
        ),
        "gap-of-20-mb.gif": (gif(5, 5, bytes(20_000_000)), "no frame"),
        "20000-frames.gif": (encoded(picture(9), "GIF")[:-1] + many + b";", ARRIVES),
        "250-mb-of-nothing.png": (None, "more than the limit of 256,000,000"),
    }


def _posing() -> dict[str, Content]:
    """What only its name makes an image, or would be one by another name."""
    image = picture(10)
    elf = b"\x7fELF\2\1\1" + bytes(200)
    return {
        "html.jpg": (b"<!doctype html><script>alert(1)</script>", NONE),
        "svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", NONE),
        "entities.png": (b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>", NONE),
        "pdf.jpg": (b"%PDF-1.7\n", NONE),
        "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", NONE),
        "elf.jpg": (elf, NONE),
        "text.bmp": (b"BM is how this text begins", PIXELS),
        "text.webp": (b"RIFF0000WEBPtext", "cut short"),
        "tiff.png": (encoded(image, "TIFF"), NONE),
        "icon.png": (encoded(image, "ICO", sizes=[(8, 8)]), NONE),
        "jpeg2000.jpg": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), NONE),
        "portable.png": (encoded(image, "PPM"), NONE),
        "a-zip.png": (_zip(), NONE),
        "utf-16.jpg": ("text".encode("utf-16"), NONE),
        "notes.txt": (b"text", SKIPPED),
        "image.tiff": (encoded(image, "TIFF"), SKIPPED),
        "image.png.exe": (elf, SKIPPED),
        "png": (encoded(image, "PNG"), SKIPPED),
        ".hidden.png": (encoded(image, "PNG"), SKIPPED),
        "__MACOSX/._image.png": (b"\0\5\x16\7", SKIPPED),
        "inside.zip": (_zip(), SKIPPED),
    }


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inside.png", encoded(picture(11), "PNG"))
    return buffer.getvalue()


def _behind_header(data: bytes, part: bytes) -> bytes:
    return data[:33] + part + data[33:]


def _sized(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG that claims another size."""
    at = next(jpeg.index(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if mark in jpeg)
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def _scans_of_one_colour(count: int) -> bytes:
    """A sequential JPEG of three colours, each in scans of its own."""
    jpeg = encoded(picture(12, 16, 16), "JPEG", subsampling=0)
    at = jpeg.rindex(b"\xff\xda")
    scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + b"\x2b" * 8
    return jpeg[:at] + scan * count + b"\xff\xd9"


def _lossy_chunk() -> tuple[bytes, bytes]:
    data = encoded(picture(13), "WEBP")
    return b"VP8 ", data[20 : 20 + int.from_bytes(data[16:20], "little")]


def _lossless() -> bytes:
    """The header of 8000x8000 pixels without any."""
    return b"\x2f" + struct.pack("<I", 7_999 | 7_999 << 14) + b"\xff" * 20
