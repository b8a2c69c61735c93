"""Image files that are unusual but good, truncated, malformed, too costly, or not images."""

import functools
import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

from tests.corpus.converted import converted
from tests.corpus.entries import ACCEPTED, SKIPPED, Content
from tests.corpus.metadata import metadata
from tests.corpus.pictures import (
    PNG,
    blocks,
    bmp,
    chunk,
    encoded,
    gif,
    ihdr,
    lossy_chunk,
    picture,
    png,
    riff,
    rows,
    segment,
    vp8x,
)

UNDECODABLE = "cannot be decoded"
TOO_LARGE = "more than the limit of 64,000,000 pixels"
NOT_AN_IMAGE = "not a PNG, JPEG, BMP, GIF, WebP, TIFF, PPM, AVIF or HEIC image"


@functools.cache
def images() -> dict[str, Content]:
    """The data and the expected outcome of each file, by name."""
    own = {**_good(), **_truncated(), **_malformed(), **_bombs(), **_misnamed()}
    return own | converted() | metadata()


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
        "and-php.png": _insert_after_header(
            encoded(image, "PNG"), chunk(b"tEXt", b"c\0<?php exit();")
        ),
    }
    return {name: (data, ACCEPTED) for name, data in good.items()}


def _truncated() -> dict[str, Content]:
    entries: dict[str, Content] = {
        "empty.png": (b"", "empty"),
        "zeros.png": (bytes(4096), NOT_AN_IMAGE),
    }
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP"):
        data = encoded(picture(6, 40, 50), kind)
        suffix = kind.lower()
        entries[f"cut-in-the-mark.{suffix}"] = data[:2], NOT_AN_IMAGE
        entries[f"cut-in-the-header.{suffix}"] = data[:17], "truncated"
        entries[f"cut-in-half.{suffix}"] = data[: len(data) // 2], UNDECODABLE
        entries[f"last-bytes-missing.{suffix}"] = data[:-10], UNDECODABLE
        entries[f"body-of-zeros.{suffix}"] = data[:60] + bytes(len(data) - 60), UNDECODABLE
    # Exceptions: a BMP has two magic bytes, the header of a GIF has 13 bytes, zeros are valid
    # pixels of a BMP and valid codes of a WebP, and in a JPEG they are in its tables.
    exceptions = {
        "cut-in-the-mark.bmp": "truncated",
        "cut-in-the-header.gif": UNDECODABLE,
        "body-of-zeros.bmp": ACCEPTED,
        "body-of-zeros.webp": ACCEPTED,
        "body-of-zeros.jpeg": "truncated",
    }
    return entries | {name: (entries[name][0], outcome) for name, outcome in exceptions.items()}


def _malformed() -> dict[str, Content]:
    image = encoded(picture(7), "PNG")
    jpeg = encoded(picture(7), "JPEG")
    tables = jpeg.index(b"\xff\xc4")
    dht = jpeg[: tables + 5] + b"\xff" * 16 + jpeg[tables + 21 :]
    return {
        "no-pixels.png": (png(0, 5, rows(1, 1)), "no pixels"),
        "no-pixels.gif": (gif(0, 0), "no pixels"),
        "no-pixels.jpg": (_with_size(jpeg, 0, 0), "no pixels"),
        "negative.bmp": (bmp(-5, 5, 24, 0, bytes(75)), "no pixels"),
        "wrong-crc.png": (png(2, 2, rows(2, 2)).replace(b"IDAT", b"IDAt"), UNDECODABLE),
        "wrong-crc-of-text.png": (
            _insert_after_header(image, chunk(b"teXt", b"a", 1)),
            UNDECODABLE,
        ),
        "wrong-crc-of-pixels.png": (
            PNG + ihdr(2, 2) + chunk(b"IDAT", rows(2, 2), 1) + chunk(b"IEND"),
            UNDECODABLE,
        ),
        "no-pixel-data.png": (PNG + ihdr(2, 2) + chunk(b"IEND"), UNDECODABLE),
        "no-palette.png": (png(2, 2, rows(2, 2, 1), colour=3), UNDECODABLE),
        "no-such-colour.png": (png(2, 2, rows(2, 2), colour=5), UNDECODABLE),
        "no-such-depth.png": (png(2, 2, rows(2, 2), depth=3), UNDECODABLE),
        "chunk-of-4-gb.png": (image[:33] + b"\xff\xff\xff\xff" + image[37:], UNDECODABLE),
        "huffman-tables.jpg": (dht, UNDECODABLE),
        "no-tables.jpg": (jpeg[:2] + jpeg[jpeg.index(b"\xff\xc0") :], UNDECODABLE),
        "lengths-of-zero.jpg": (b"\xff\xd8\xff\xe0" + bytes(50), "truncated"),
        "arithmetic.jpg": (jpeg.replace(b"\xff\xc0", b"\xff\xcb", 1), UNDECODABLE),
        "no-frame.gif": (gif(5, 5)[:19] + b";", UNDECODABLE),
        "no-such-code-size.gif": (gif(5, 5).replace(b"\x02\x02\x4c", b"\xff\x02\x4c"), UNDECODABLE),
        "no-such-packing.bmp": (bmp(5, 5, 24, 77, bytes(80)), UNDECODABLE),
        "no-such-bits.bmp": (bmp(5, 5, 13, 0, bytes(80)), UNDECODABLE),
        "no-image.webp": (riff(vp8x(5, 5)), UNDECODABLE),
        "other-size-inside.webp": (riff(vp8x(5, 5), lossy_chunk()), UNDECODABLE),
    }


def _bombs() -> dict[str, Content]:
    jpeg = encoded(picture(8, 16, 16), "JPEG", progressive=True)
    scan = jpeg.rindex(b"\xff\xda")
    zeros = zlib.compress(bytes(50_000_000), 9)
    many = (struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\0") * 20_000
    huge = {
        "60000x60000.png": png(60_000, 60_000, rows(10, 10)),
        "60000x60000.jpg": _with_size(jpeg, 60_000, 60_000),
        "60000x60000.gif": gif(60_000, 60_000),
        "60000x60000.bmp": bmp(60_000, 60_000, 8, 0, bytes(100)),
        "16000x16000.webp": riff(vp8x(16_000, 16_000), lossy_chunk()),
        "20000x20000-of-zeros.png": png(20_000, 20_000, rows(2_500, 20_000, 1), depth=1, colour=0),
        "frame-of-9000x9000.gif": gif(5, 5, frame=(9_000, 9_000)),
    }
    return {
        **{name: (data, TOO_LARGE) for name, data in huge.items()},
        "frame-of-60000x60000.gif": (gif(5, 5, frame=(60_000, 60_000)), "exceeds limit"),
        "8000x8000-of-nothing.png": (png(8_000, 8_000, rows(10, 10)), "cannot hold 8000x8000"),
        "8000x8000-cut.png": (
            png(8_000, 8_000, rows(8_000, 8_000, 1), colour=0)[:-13],
            "truncated",
        ),
        "8000x8000-of-nothing.bmp": (bmp(8_000, 8_000, 24, 0, bytes(100)), "truncated"),
        "8000x8000-of-nothing.gif": (gif(8_000, 8_000), UNDECODABLE),
        "8000x8000-of-nothing.webp": (
            riff(vp8x(8_000, 8_000), (b"VP8L", _lossless())),
            UNDECODABLE,
        ),
        "8000x8000-of-nothing.jpg": (_with_size(jpeg, 8_000, 8_000), "cannot hold 8000x8000"),
        "8000x8000-of-rows.bmp": (bmp(8_000, 8_000, 8, 1, b"\1\0\0\0" * 99), "run-length"),
        "60000000x1-of-one-run.bmp": (bmp(60_000_000, 1, 8, 1, b"\1\0\0\0\0\1"), "run-length"),
        "3000-scans.jpg": (jpeg[:scan] + jpeg[scan:-2] * 3000 + jpeg[-2:], "more than 100 scans"),
        "3000-scans-of-one-colour.jpg": (_scans_of_one_colour(3000), "more than 100 scans"),
        "9000-segments.jpg": (jpeg[:2] + segment(0xFE, b"a") * 9000 + jpeg[2:], "1,024 segments"),
        "exif-of-9-mb.jpg": (
            jpeg[:2] + segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 150 + jpeg[2:],
            "more than 16 segments",
        ),
        "fillers-of-20-mb.jpg": (jpeg[:2] + b"\xff" * 20_000_000 + jpeg[2:], "65,536 bytes"),
        "zeros-of-20-mb.jpg": (jpeg[:3] + bytes(20_000_000), "truncated"),
        "text-of-50-mb.png": (
            png(2, 2, rows(2, 2), chunk(b"zTXt", b"c\0\0" + zeros)),
            UNDECODABLE,
        ),
        "profile-of-50-mb.png": (
            png(2, 2, rows(2, 2), chunk(b"iCCP", b"c\0\0" + zeros)),
            UNDECODABLE,
        ),
        "pixels-of-50-mb-in-2x2.png": (png(2, 2, zeros), ACCEPTED),
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
        "gap-of-20-mb.gif": (gif(5, 5, bytes(20_000_000)), "without a frame"),
        "20000-frames.gif": (encoded(picture(9), "GIF")[:-1] + many + b";", ACCEPTED),
        "250-mb-of-nothing.png": (None, "more than the limit of 256,000,000"),
    }


def _misnamed() -> dict[str, Content]:
    """Files that are images only by their names, and images whose names are not those of images."""
    image = picture(10)
    elf = b"\x7fELF\2\1\1" + bytes(200)
    return {
        "html.jpg": (b"<!doctype html><script>alert(1)</script>", NOT_AN_IMAGE),
        "svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", NOT_AN_IMAGE),
        "entities.png": (b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>", NOT_AN_IMAGE),
        "pdf.jpg": (b"%PDF-1.7\n", NOT_AN_IMAGE),
        "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", NOT_AN_IMAGE),
        "elf.jpg": (elf, NOT_AN_IMAGE),
        "text.bmp": (b"BM is how this text begins", TOO_LARGE),
        "text.webp": (b"RIFF0000WEBPtext", "truncated"),
        "tiff.png": (encoded(image, "TIFF"), ACCEPTED),
        "icon.png": (encoded(image, "ICO", sizes=[(8, 8)]), NOT_AN_IMAGE),
        "jpeg2000.jpg": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), NOT_AN_IMAGE),
        "portable.png": (encoded(image, "PPM"), ACCEPTED),
        "a-zip.png": (_zip(), NOT_AN_IMAGE),
        "utf-16.jpg": ("text".encode("utf-16"), NOT_AN_IMAGE),
        "notes.txt": (b"text", SKIPPED),
        "image.tiff": (encoded(image, "TIFF"), ACCEPTED),
        "image.png.exe": (elf, SKIPPED),
        "png": (encoded(image, "PNG"), ACCEPTED),
        "text": (b"text", SKIPPED),
        "sparse.xyz": (None, SKIPPED),
        ".hidden.png": (encoded(image, "PNG"), SKIPPED),
        "__MACOSX/._image.png": (b"\0\5\x16\7", SKIPPED),
        "inside.zip": (_zip(), SKIPPED),
    }


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inside.png", encoded(picture(11), "PNG"))
    return buffer.getvalue()


def _insert_after_header(data: bytes, part: bytes) -> bytes:
    return data[:33] + part + data[33:]


def _with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG that declares a different size."""
    offset = next(jpeg.index(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if mark in jpeg)
    return jpeg[: offset + 5] + struct.pack(">HH", height, width) + jpeg[offset + 9 :]


def _scans_of_one_colour(count: int) -> bytes:
    """A sequential JPEG with three components, each in separate scans."""
    jpeg = encoded(picture(12, 16, 16), "JPEG", subsampling=0)
    offset = jpeg.rindex(b"\xff\xda")
    scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + b"\x2b" * 8
    return jpeg[:offset] + scan * count + b"\xff\xd9"


def _lossless() -> bytes:
    """The header of a lossless WebP of 8000x8000 pixels, without pixel data."""
    return b"\x2f" + struct.pack("<I", 7_999 | 7_999 << 14) + b"\xff" * 20
