"""What is in a tar, read by its headers; one made to cost its reader much is given up early."""

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
"""What Python's readers of archives and of what is packed in them raise on broken ones."""
LINK = "a link, which is not followed"

MAX_HEADER_BYTES = 2**16
"""Of a member: names, extended attributes and holes."""
MAX_RATIO = 100
"""A compressed tar unpacks to so many times its size, and `MAX_BYTES` more."""

_PACKERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"]\0\0": lzma.LZMAFile,
}
# Python 3.11 takes a time that grows with the square of their number.
_MANY_DIGITS = re.compile(rb"[0-9]{64}")
_MOST_TOLD = 200
_PART_BYTES = 2**20


class Member(NamedTuple):
    """Where a file begins in the unpacked tar, its bytes, and why it cannot be read, if so."""

    at: int
    size: int
    fault: str = ""


class Index(NamedTuple):
    """Whether a tar is compressed, its files by name, and how many others there are.

    The last of a name counts.
    """

    packed: bool
    members: dict[str, Member]
    others: int


def index(file: BufferedReader, size: int, wanted: Callable[[str], bool]) -> Index:
    """Lists what a tar holds, but for folders.

    A tar has no directory of its own: its headers are read one after the other.

    Args:
        file: the tar, at its beginning.
        size: its bytes.
        wanted: tells by its name whether a file is listed.

    Raises:
        one of `ERRORS`: if it is none, is cut short, or costs more than it may.
    """
    packed = _packer(file) is not None
    members, others = {}, 0
    with unpacked(file) as stream:
        headers = _Forwards(stream, MAX_BYTES + MAX_RATIO * size if packed else None)
        archive = tarfile.TarFile(fileobj=headers)  # type: ignore[arg-type]
        while (member := archive.next()) is not None:
            if not wanted(member.name):
                others += not member.isdir()
            elif not member.isdir():
                members[member.name] = Member(member.offset_data, member.size, _fault(member))
            # It would keep a kilobyte of each.
            archive.members = []  # type: ignore[attr-defined]
            headers.held = 0
        if headers.last.strip(b"\0"):
            raise tarfile.ReadError(f"a broken header at byte {archive.offset:,}")
        if packed:
            headers.go_to_the_end()
    return Index(packed, members, others)


def unpacked(file: BufferedReader) -> BinaryIO:
    """What a tar is without its compression.

    Args:
        file: the tar, at its beginning.
    """
    packer = _packer(file)
    return file if packer is None else packer(file)


def told(error: BaseException) -> str:
    """An error's own words, on one line."""
    return " ".join(str(error).split())[:_MOST_TOLD] or type(error).__name__


def _packer(file: BufferedReader) -> Callable[[Any], Any] | None:
    start = file.peek(8)
    return next((packer for mark, packer in _PACKERS.items() if start.startswith(mark)), None)


def _fault(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return LINK
    if member.issparse():
        return "a file with holes, of which a tar holds parts only"
    return "" if member.isreg() else "a device or a pipe"


class _Forwards:
    """A tar as its headers are read: never back, so that it ends, and little at a time.

    Attributes:
        last: what was read last.
        held: bytes read since the member before.
    """

    def __init__(self, file: BinaryIO, most: int | None):
        self._file, self._most = file, most
        self.last, self.held = b"", 0

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, at: int) -> None:
        if at < self.tell() - 1:
            raise tarfile.ReadError(f"a size that leads back to byte {at:,}")
        if self._most is not None and at > self._most:
            raise tarfile.ReadError(
                f"it unpacks to more than {self._most:,} bytes, "
                f"{MAX_RATIO} times its size and {MAX_BYTES:,}"
            )
        self._file.seek(at)

    def go_to_the_end(self) -> None:
        """Reads what comes behind the last member, where the checksum of all stands."""
        at = -1
        while at != self.tell():
            at = self.tell()
            self.seek(at + _PART_BYTES)

    def read(self, size: int) -> bytes:
        self.held += size
        if size < 0 or self.held > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of more than {MAX_HEADER_BYTES:,} bytes")
        self.last = self._file.read(size)
        if size > tarfile.BLOCKSIZE and _MANY_DIGITS.search(self.last):
            raise tarfile.ReadError("a header with a number of 64 digits or more")
        return self.last
