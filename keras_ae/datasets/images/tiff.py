"""The directories of a TIFF: its size, its samples and its pages, before any decoding.

See TIFF 6.0, section 2, and the specification of BigTIFF, whose offsets have 64 bits.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from keras_ae.contract import MAX_PIXELS
from keras_ae.errors import DataError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MAX_PAGES = 1024
"""Number of pages that are looked at."""

TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
"""Size in bytes of a value of each type; 13 and 16 to 18 are the offsets of BigTIFF and others."""
TYPE_BYTES |= {13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
SAMPLES, PLANES, TILE_WIDTH, TILE_HEIGHT, SAMPLE_FORMAT, DNG = 277, 284, 322, 323, 339, 50706
_STARTS_AND_SIZES = ((273, 279), (324, 325))
"""Tags of the offsets and sizes of strips, and of tiles."""
_SUBDIRECTORIES = (34665, 34853, 40965)
"""Tags of directories that Pillow reads: EXIF, GPS and interoperability."""
_UNCOMPRESSED = 1
# Not LZMA (34925), whose streams may demand a dictionary of gigabytes.
_COMPRESSIONS = (_UNCOMPRESSED, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 50000, 50001)
_REDUCED = 1
"""Bit of `SUBFILE`: a smaller version of another image of the file."""


class Directory(NamedTuple):
    """An image file directory (IFD).

    Attributes:
        values: whole numbers by tag; those of other types are left out.
        sizes: sizes in bytes of the values of all tags.
        next: offset of the next directory; 0 after the last.
    """

    values: dict[int, tuple[int, ...]]
    sizes: list[int]
    next: int

    def first(self, tag: int, default: int = 0) -> int:
        """The first value of a tag, or the default if it is missing."""
        return (self.values.get(tag) or (default,))[0]


def first_directory(data: bytes) -> Directory:
    """Reads the directory of the first image.

    Raises:
        struct.error: if it is truncated.
    """
    return next(_directories(data))


def check_tiff(data: bytes) -> None:
    """Rejects a TIFF that is truncated, built to cost too much, or not a picture that was edited.

    Raises:
        DataError: if the TIFF is rejected.
        struct.error: if it is truncated.
    """
    first = first_directory(data)
    if data[8:10] == b"CR" or DNG in first.values or first.first(SUBFILE) & _REDUCED:
        raise DataError("a camera's raw file; expected the developed image, such as a TIFF or JPEG")
    if first.first(COMPRESSION, _UNCOMPRESSED) not in _COMPRESSIONS:
        raise DataError(f"a TIFF with an unsupported compression ({first.first(COMPRESSION)})")
    if first.first(TILE_WIDTH) * first.first(TILE_HEIGHT) > MAX_PIXELS:
        raise DataError(f"a TIFF with tiles of more than {MAX_PIXELS:,} pixels")
    subdirectories = [_read(data, first.first(t)) for t in _SUBDIRECTORIES if first.first(t)]
    # A reader copies each value, and the values of a hostile file overlap.
    if sum(size for each in (first, *subdirectories) for size in each.sizes) > 2 * len(data):
        raise DataError("a TIFF whose values are larger than the file")
    _check_strips(data, first)


def has_other_pages(data: bytes) -> bool:
    """Whether a TIFF has images besides the first that are not smaller versions of another."""
    pages = _directories(data)
    try:
        next(pages)
        return any(not page.first(SUBFILE) & _REDUCED for page in pages)
    except (struct.error, DataError):
        return False


def _check_strips(data: bytes, directory: Directory) -> None:
    total = 0
    for starts, sizes in _STARTS_AND_SIZES:
        for start, size in zip(directory.values.get(starts, ()), directory.values.get(sizes, ())):
            total += size
            if start + size > len(data):
                raise DataError("cannot be decoded: truncated")
    width, height = directory.first(WIDTH), directory.first(HEIGHT)
    bits = sum(directory.values.get(BITS, (1,))[: directory.first(SAMPLES, 1)])
    uncompressed = directory.first(COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED
    if uncompressed and total and total < width * bits // 8 * height:
        raise DataError(f"cannot be decoded: {total:,} bytes cannot hold {width}x{height} pixels")


def _directories(data: bytes) -> Iterator[Directory]:
    order = _order(data)
    big = _is_big(data)
    (offset,) = struct.unpack_from(order + "Q" if big else order + "I", data, 8 if big else 4)
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < MAX_PAGES:
        seen.add(offset)
        directory = _read(data, offset)
        yield directory
        offset = directory.next
    if not seen:
        raise DataError("the header is truncated")


def _read(data: bytes, offset: int) -> Directory:
    order, big = _order(data), _is_big(data)
    if offset > len(data):
        raise DataError("the header is truncated")
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, offset)
    # Tags are 16-bit numbers, each at most once.
    if count > 2**16:
        raise DataError("a TIFF directory of more than 65,536 entries")
    offset += 8 if big else 2
    entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    values, sizes = {}, []
    for number in range(count):
        start = offset + number * entry.size
        tag, kind, amount, inline = entry.unpack_from(data, start)
        size = TYPE_BYTES.get(kind, 0) * amount
        sizes.append(size)
        if kind in _CODES and size <= len(data):
            at = struct.unpack(order + ("Q" if big else "I"), inline)[0]
            at = start + entry.size - len(inline) if size <= len(inline) else at
            if at + size <= len(data):
                values[tag] = struct.unpack_from(f"{order}{amount}{_CODES[kind]}", data, at)
    (following,) = struct.unpack_from(
        order + ("Q" if big else "I"), data, offset + count * entry.size
    )
    return Directory(values, sizes, following)


def _order(data: bytes) -> str:
    return "<" if data[:2] == b"II" else ">"


def _is_big(data: bytes) -> bool:
    return b"+" in data[2:4]
