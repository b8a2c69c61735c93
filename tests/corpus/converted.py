"""Files of the formats that are converted at ingest: TIFF, PPM, AVIF, HEIC, and 16-bit PNG.

Some are good, others are truncated, malformed or too costly.
"""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.corpus.entries import ACCEPTED, SKIPPED, Content
from tests.corpus.pictures import encoded, picture, png, rows

TOO_LARGE = "more than the limit of 64,000,000 pixels"
NO_HEADER = "without a header in its first 65,536 bytes"
TRUNCATED = "cannot be decoded"
SHORT, LONG, BYTES = 3, 4, 7
"""Types of values of a TIFF."""

Tag = tuple[int, int, int, int]
"""Number, type, count, and the value or its offset."""


def converted() -> dict[str, Content]:
    """The data and the expected outcome of each file, by name."""
    return {**_good(), **_truncated(), **_malformed(), **_bombs()}


def tiff(tags: list[Tag], body: bytes = b"", following: int = 0) -> bytes:
    """A TIFF with one directory, behind a body that starts at byte 8."""
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *t) for t in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(body))
    return head + body + directory + struct.pack("<I", following)


def picture_tags(width: int, height: int, body_bytes: int, compression: int = 1) -> list[Tag]:
    """The tags of a grey image of 8 bits in one strip at byte 8."""
    return [
        (256, LONG, 1, width),
        (257, LONG, 1, height),
        (258, SHORT, 1, 8),
        (259, SHORT, 1, compression),
        (262, SHORT, 1, 1),
        (273, LONG, 1, 8),
        (277, SHORT, 1, 1),
        (278, LONG, 1, height),
        (279, LONG, 1, body_bytes),
    ]


def _heic(image: Image.Image) -> bytes:
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer)
    return buffer.getvalue()


def _sixteen_bits() -> Image.Image:
    return Image.fromarray(np.arange(0, 65536, 64, dtype="u2").reshape(32, 32))


def _plain() -> dict[str, bytes]:
    """A file of each format that no other file of the corpus has."""
    image = picture(20, 40, 50)
    return {
        "tiff": encoded(image, "TIFF"),
        "lzw.tif": encoded(image, "TIFF", compression="tiff_lzw"),
        "deflate.tif": encoded(image, "TIFF", compression="tiff_adobe_deflate"),
        "ppm": encoded(image, "PPM"),
        "pgm": encoded(image.convert("L"), "PPM"),
        "pbm": encoded(image.convert("1"), "PPM"),
        "avif": encoded(image, "AVIF"),
        "heic": _heic(picture(21, 64, 64)),
        "16-bit.png": encoded(_sixteen_bits(), "PNG"),
        "16-bit.tif": encoded(_sixteen_bits(), "TIFF"),
    }


def _good() -> dict[str, Content]:
    image = picture(22)
    pages = {"save_all": True, "append_images": [picture(i) for i in range(60)]}
    floats = np.linspace(0, 1, 64, dtype="f4").reshape(8, 8)
    good = {f"converted.{name}": data for name, data in _plain().items()}
    good |= {
        "60-pages.tif": encoded(image, "TIFF", **pages),
        "floats.tif": encoded(Image.fromarray(floats), "TIFF"),
        "plain-text.pbm": b"P1\n# a comment\n3 2\n1 0 1\n0 1 0\n",
        "plain-text.ppm": b"P3 1 2 255 1 2 3 4 5 6",
        "own-white.pgm": b"P5 2 1 7\n\0\7",
        "one-directory-in-a-circle.tif": tiff(picture_tags(2, 2, 4), bytes(4), 12),
        "junk-behind.ppm": encoded(image, "PPM") + b"junk" * 1000,
    }
    return {name: (data, ACCEPTED) for name, data in good.items()}


def _truncated() -> dict[str, Content]:
    entries: dict[str, Content] = {}
    for name, data in _plain().items():
        entries[f"cut-in-half-{name}"] = data[: len(data) // 2], TRUNCATED
        entries[f"cut-in-the-header-{name}"] = data[:17], "truncated"
    # A compressed TIFF has its directory at its end, and the header of a small PPM is shorter.
    for name in ("lzw.tif", "deflate.tif"):
        entries[f"cut-in-half-{name}"] = entries[f"cut-in-half-{name}"][0], "truncated"
    for name in ("ppm", "pgm"):
        entries[f"cut-in-the-header-{name}"] = entries[f"cut-in-the-header-{name}"][0][:7], "trunc"
    return entries


def _malformed() -> dict[str, Content]:
    compressed = zlib.compress(bytes(4))
    numbers = Image.fromarray(np.arange(64, dtype="i4").reshape(8, 8) * 100_000)
    return {
        "no-pixels.tif": (tiff(picture_tags(0, 2, 4), bytes(4)), "no pixels"),
        "no-pixels.ppm": (b"P6 0 5 255\n", "no pixels"),
        "no-tags.tif": (tiff([]), "no pixels"),
        "no-such-compression.tif": (tiff(picture_tags(2, 2, 4, 34925), bytes(4)), "compression"),
        "white-of-zero.ppm": (b"P6 1 1 0\n\0\0\0", "level of white of 0"),
        "white-of-99999.ppm": (b"P6 1 1 99999\n\0\0\0", "level of white of 99999"),
        "words.ppm": (b"P3 1 1 255 one two three", "expected numbers"),
        "negative.pgm": (b"P2 1 1 255 -3", "expected numbers"),
        "photo.cr2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(99), SKIPPED),
        "raw.tif": (tiff([*picture_tags(2, 2, 4), (50706, LONG, 1, 1)], bytes(4)), "raw file"),
        "corrupt-strip.tif": (tiff(picture_tags(2, 2, 12, 8), b"\xff" * 12), TRUNCATED),
        "short-strip.tif": (
            tiff(picture_tags(9, 9, len(compressed), 8), compressed),
            TRUNCATED,
        ),
        "floats-above-1.tif": (
            encoded(Image.fromarray(np.full((8, 8), 255, "f4")), "TIFF"),
            "from 255 to 255, expected 0 to 1",
        ),
        "not-a-number.tif": (
            encoded(Image.fromarray(np.full((8, 8), np.nan, "f4")), "TIFF"),
            "expected 0 to 1",
        ),
        "32-bit.tif": (encoded(numbers, "TIFF"), "32-bit integer levels from 0 to 6300000"),
        "no-image.avif": (b"\0\0\0\x18ftypavif\0\0\0\0avifmif1", "truncated"),
        "no-image.heic": (b"\0\0\0\x18ftypheic\0\0\0\0heicmif1", "truncated"),
    }


def _bombs() -> dict[str, Content]:
    zeros = zlib.compress(bytes(50_000_000), 9)
    many = [(0x1000 + i, BYTES, 60_000, 8) for i in range(3_000)]
    return {
        "60000x60000.tif": (tiff(picture_tags(60_000, 60_000, 4), bytes(4)), TOO_LARGE),
        "60000x60000.ppm": (b"P6 60000 60000 255\n" + bytes(100), TOO_LARGE),
        "9999999999x1.ppm": (b"P6 9999999999 1 255\n" + bytes(100), TOO_LARGE),
        "60000x60000.avif": (_with_size(encoded(picture(23), "AVIF")), TOO_LARGE),
        "60000x60000.heic": (_with_size(_heic(picture(24, 64, 64))), TOO_LARGE),
        "8000x8000-of-nothing.ppm": (b"P6 8000 8000 65535\n" + bytes(100), "truncated"),
        "8000x8000-of-nothing.pbm": (b"P1 8000 8000\n" + b"1" * 100, "truncated"),
        "8000x8000-plain.pgm": (b"P2 8000 8000 255\n" + b"1 " * 100, "50,000,000 samples"),
        "comment-of-20-mb.ppm": (b"P6 #" + b"a" * 20_000_000 + b"\n1 1 255\n123", NO_HEADER),
        "comments-of-4-mb.ppm": (b"P6 " + b"#\n" * 2_000_000 + b"1 1 255\n123", NO_HEADER),
        "spaces-of-20-mb.ppm": (b"P3 1 1 255" + b" " * 20_000_000 + b"1 2 3", ACCEPTED),
        "digits-of-20-mb.ppm": (b"P3 1 1 255 " + b"1" * 20_000_000, "expected numbers"),
        "digits-of-20-mb-in-the-header.ppm": (b"P6 " + b"1" * 20_000_000, NO_HEADER),
        "8000x8000-of-nothing.tif": (
            tiff(picture_tags(8_000, 8_000, 4), bytes(4)),
            "cannot hold 8000x8000",
        ),
        "8000x8000-of-4-bytes-deflated.tif": (
            tiff(picture_tags(8_000, 8_000, 4, 8), bytes(4)),
            TRUNCATED,
        ),
        "tags-of-300-mb.tif": (
            tiff([*picture_tags(2, 2, 4), *many], bytes(60_000)),
            "values are larger than the file",
        ),
        "4000-tags.tif": (
            tiff([*picture_tags(2, 2, 4), *((1000 + i, LONG, 1, 0) for i in range(4_000))]),
            ACCEPTED,
        ),
        "60000-tags.tif": (
            tiff([*picture_tags(2, 2, 4), *((1000 + i, LONG, 1, 0) for i in range(60_000))]),
            "directory of more than 4,096 entries",
        ),
        "numbers-of-10-gb.tif": (
            tiff([*picture_tags(2, 2, 4), *[(700, 1, 10_000_000, 8)] * 1000], bytes(10_000_000)),
            "values are larger than the file",
        ),
        "3-million-strips.tif": (
            tiff([*picture_tags(2, 2, 4)[:5], (273, SHORT, 3_000_000, 8)], bytes(6_000_000)),
            "more than 1,048,576 values",
        ),
        "overlapping-pages.tif": (_overlapping_pages(1000, 4000), ACCEPTED),
        "100000-pages.tif": (_pages(100_000), ACCEPTED),
        "tile-of-30000x30000.tif": (
            tiff([*picture_tags(2, 2, 4), (322, LONG, 1, 30_000), (323, LONG, 1, 30_000)]),
            "tiles of more than",
        ),
        "50-mb-in-2x2.tif": (tiff(picture_tags(2, 2, len(zeros), 8), zeros), ACCEPTED),
        "16-bit-8000x8000-of-nothing.png": (
            png(8_000, 8_000, rows(10, 10), depth=16),
            "cannot hold 8000x8000",
        ),
        "16-bit-pixels-of-50-mb-in-2x2.png": (png(2, 2, zeros, depth=16), ACCEPTED),
    }


def _pages(count: int) -> bytes:
    """A TIFF of as many pages, all with the same pixels."""
    tags = b"".join(struct.pack("<HHII", *tag) for tag in picture_tags(2, 2, 4))
    size = 2 + len(tags) + 4

    def directories() -> Iterator[bytes]:
        for page in range(count):
            following = 12 + (page + 1) * size if page + 1 < count else 0
            yield struct.pack("<H", len(tags) // 12) + tags + struct.pack("<I", following)

    return b"II*\0" + struct.pack("<I", 12) + bytes(4) + b"".join(directories())


def _overlapping_pages(count: int, entries: int) -> bytes:
    """A TIFF with smaller versions of its image, whose long directories share almost all bytes."""
    first = tiff(picture_tags(2, 2, 4), bytes(4))
    start = (len(first) + 11) // 12 * 12
    # The upper half of a value is the number of entries of the directory that begins there.
    entry = struct.pack("<HHIHH", 254, SHORT, 1, 1, entries)
    shared = bytearray(struct.pack("<H", entries) + entry * (entries + count))
    for page in range(count):
        following = start + (page + 1) * 12 if page + 1 < count else 0
        struct.pack_into("<I", shared, page * 12 + 2 + entries * 12, following)
    return first[:-4] + struct.pack("<I", start) + bytes(start - len(first)) + bytes(shared)


def _with_size(data: bytes) -> bytes:
    """An AVIF or HEIC that declares 60000x60000 pixels."""
    offset = data.index(b"ispe") + 8
    return data[:offset] + struct.pack(">II", 60_000, 60_000) + data[offset + 8 :]
