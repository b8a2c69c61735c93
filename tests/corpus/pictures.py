"""Small pictures, and the parts of image files."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"


def picture(seed: int = 0, height: int = 10, width: int = 12) -> Image.Image:
    """An RGB image of noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), "u1"))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    """Encodes an image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes = b"", crc: int = 0) -> bytes:
    """A PNG chunk; its checksum is wrong if `crc` is not 0."""
    return (
        struct.pack(">I4s", len(data), kind)
        + data
        + struct.pack(">I", zlib.crc32(kind + data) ^ crc)
    )


def ihdr(width: int, height: int, depth: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    """The first chunk of a PNG."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def png(width: int, height: int, data: bytes, *others: bytes, depth: int = 8, colour: int = 2):
    """A PNG with this data in its only IDAT, after the other chunks."""
    parts = (PNG, ihdr(width, height, depth, colour), *others, chunk(b"IDAT", data), chunk(b"IEND"))
    return b"".join(parts)


def rows(width: int, height: int, samples: int = 3) -> bytes:
    """Compressed pixel data of a PNG of zeros."""
    compressor = zlib.compressobj(9)
    row = bytes(1 + width * samples)
    return b"".join([*(compressor.compress(row) for _ in range(height)), compressor.flush()])


def segment(marker: int, data: bytes) -> bytes:
    """A JPEG segment with a length."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def exif_bomb(entries: int, size: int) -> bytes:
    """An EXIF block of different tags whose values are the same `size` bytes of the block."""
    head = b"MM\0*\0\0\0\x08" + struct.pack(">H", entries)
    tags = b"".join(struct.pack(">HHII", 0x1000 + i, 7, size, 8) for i in range(entries))
    return (head + tags).ljust(size + 8, b"\0")


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP with these chunks."""
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def vp8x(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    """The chunk with the size of an extended WebP."""
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes([flags, 0, 0, 0]) + sizes


def lossy_chunk() -> tuple[bytes, bytes]:
    """The chunk with the pixels of a lossy WebP of 12x10 pixels."""
    data = encoded(picture(13), "WEBP")
    return b"VP8 ", data[20 : 20 + int.from_bytes(data[16:20], "little")]


def bmp(width: int, height: int, bits: int, compression: int, data: bytes) -> bytes:
    """A BMP, with a grey palette if it has at most 8 bits per pixel."""
    palette = b"".join(bytes([i, i, i, 0]) for i in range(2**bits)) if bits <= 8 else b""
    info = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, 0, 0
    )
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + palette + data


def gif(width: int, height: int, *parts: bytes, frame: tuple[int, int] | None = None) -> bytes:
    """A GIF of two colours: a screen, parts before the frame, and a truncated frame."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    size = frame or (width, height)
    image = b"," + struct.pack("<HHHHB", 0, 0, *size, 0) + b"\x02\x02\x4c\x01\0;"
    return head + b"".join(parts) + image


def blocks(data: bytes, size: int = 255) -> bytes:
    """Splits data into the data blocks of a GIF."""
    parts = (data[i : i + size] for i in range(0, len(data), size))
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
