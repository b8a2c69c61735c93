"""The index of a tar, read from its headers, with limits that protect against hostile files."""

import bz2
import gzip
import lzma
import re
import struct
import tarfile
import zlib
from collections.abc import Callable
from io import BufferedReader
from typing import Any, BinaryIO, NamedTuple

from keras_ae.datasets.images.headers import MAX_BYTES

ERRORS = (
    EOFError,
    MemoryError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zlib.error,
)
"""Exceptions that Python's archive and decompression modules raise on damaged files."""
LINK = "a link, which is not followed"

MAX_HEADER_BYTES = 2**16
"""Maximum for a member: names, extended attributes and the map of a sparse file."""
MAX_RATIO = 100
"""A compressed tar may unpack to this many times its size, plus `MAX_BYTES`."""

_DECOMPRESSORS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"]\0\0": lzma.LZMAFile,
}
# int() of Python 3.11 takes a time that grows with the square of the number of digits.
_MANY_DIGITS = re.compile(rb"[0-9]{64}")
_PART_BYTES = 2**20


class Member(NamedTuple):
    """A file in a tar.

    Attributes:
        offset: of its data in the decompressed tar.
        size: of its data in bytes.
        fault: why it cannot be read; empty if it can.
    """

    offset: int
    size: int
    fault: str = ""


class Index(NamedTuple):
    """The contents of a tar.

    Attributes:
        is_compressed: whether the tar is compressed.
        members: the wanted files by name; of files with the same name, the last one.
    """

    is_compressed: bool
    members: dict[str, Member]


def read_index(file: BufferedReader, size: int, is_wanted: Callable[[str], bool]) -> Index:
    """Lists the files of a tar.

    A tar has no directory, so all headers are read one after the other.

    Args:
        file: the tar, at its beginning.
        size: size of the tar in bytes.
        is_wanted: whether to list the file with this name; called for each file.

    Raises:
        one of `ERRORS`: if the file is not a tar, is truncated, or exceeds a limit.
    """
    is_compressed = _find_decompressor(file) is not None
    members = {}
    with decompressed(file) as stream:
        max_offset = MAX_BYTES + MAX_RATIO * size if is_compressed else None
        headers = _ForwardReader(stream, max_offset)
        archive = tarfile.TarFile(fileobj=headers)  # type: ignore[arg-type]
        while (member := archive.next()) is not None:
            if not member.isdir() and is_wanted(member.name):
                members[member.name] = Member(member.offset_data, member.size, _fault(member))
            # TarFile would keep a kilobyte per member.
            archive.members = []  # type: ignore[attr-defined]
            headers.header_bytes = 0
        if headers.last_read.strip(b"\0"):
            raise tarfile.ReadError(f"a damaged header at byte {archive.offset:,}")
        if is_compressed:
            headers.skip_to_end()
    return Index(is_compressed, members)


def decompressed(file: BufferedReader) -> BinaryIO:
    """A file object of the decompressed tar; the file itself if it is not compressed.

    Args:
        file: the tar, at its beginning.
    """
    decompressor = _find_decompressor(file)
    return file if decompressor is None else decompressor(file)


def _find_decompressor(file: BufferedReader) -> Callable[[Any], Any] | None:
    start = file.peek(8)
    return next(
        (opener for magic, opener in _DECOMPRESSORS.items() if start.startswith(magic)), None
    )


def _fault(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return LINK
    if member.issparse():
        return "a sparse file, which is not supported"
    return "" if member.isreg() else "a device or a pipe"


class _ForwardReader:
    """Reads the headers of a tar in small parts, and never backwards, so that reading ends.

    Attributes:
        last_read: the result of the last read.
        header_bytes: bytes read since the previous member.
    """

    def __init__(self, file: BinaryIO, max_offset: int | None):
        self._file, self._max_offset = file, max_offset
        self.last_read, self.header_bytes = b"", 0

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int) -> None:
        if offset < self.tell() - 1:
            raise tarfile.ReadError(f"a size that leads back to byte {offset:,}")
        if self._max_offset is not None and offset > self._max_offset:
            raise tarfile.ReadError(
                f"it unpacks to more than {self._max_offset:,} bytes, which is "
                f"{MAX_RATIO} times its size plus {MAX_BYTES:,}"
            )
        self._file.seek(offset)

    def skip_to_end(self) -> None:
        """Reads on after the last member, because the checksum is at the end of the file."""
        offset = -1
        while offset != self.tell():
            offset = self.tell()
            self.seek(offset + _PART_BYTES)

    def read(self, size: int) -> bytes:
        self.header_bytes += size
        if size < 0 or self.header_bytes > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of more than {MAX_HEADER_BYTES:,} bytes")
        self.last_read = self._file.read(size)
        if size > tarfile.BLOCKSIZE and _MANY_DIGITS.search(self.last_read):
            raise tarfile.ReadError("a header with a number of 64 digits or more")
        return self.last_read
