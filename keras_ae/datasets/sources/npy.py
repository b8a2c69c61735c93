"""NumPy arrays in .npy and .npz files, read image by image; pickled objects are never loaded."""

import functools
import io
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Final, NamedTuple

import numpy as np

from keras_ae import storage
from keras_ae.errors import DataError, one_line

NPY, NPZ = ".npy", ".npz"
MAX_ARRAYS: Final = 10_000
"""Maximum number of arrays in a .npz."""
_MAX_LABEL_BYTES: Final = 2**27
_MAX_HEADER_BYTES: Final = 2**16
_MAX_RATIO: Final = 1040
"""Maximum compression of DEFLATE, rounded up."""
_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")
_LOCAL_MAGIC: Final = b"PK\x03\x04"
_ERRORS = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, SyntaxError, OverflowError),
    *(RecursionError, MemoryError, RuntimeError, NotImplementedError),
    *(struct.error, tokenize.TokenError, zlib.error, zipfile.BadZipFile),
)
"""Exceptions that reading a damaged file raises."""


class Array(NamedTuple):
    """An array in a file.

    Attributes:
        name: its name in a .npz; empty in a .npy.
        shape, dtype: of the array.
        is_fortran: whether the first index varies fastest.
        offset: of its data in the file, or in the compressed member.
        is_compressed: whether it must be read from its beginning.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran: bool
    offset: int
    is_compressed: bool = False

    @property
    def image_bytes(self) -> int:
        """Bytes of an image, which is all that has the same first index."""
        return int(np.prod(self.shape[1:], dtype=object)) * self.dtype.itemsize

    def __str__(self) -> str:
        shape = ", ".join(map(str, self.shape))
        return f"{self.name}{' ' if self.name else ''}[{shape}] {self.dtype.name}"


def read_index(path: str) -> list[Array]:
    """Reads the headers of all arrays of a .npy or .npz.

    Raises:
        DataError: if the file is damaged.
    """
    return list(_read_index(path, storage.get_status(path)))


def read_images(path: str, array: Array, start: int, stop: int) -> Iterator[np.ndarray]:
    """Reads a range of images.

    Yields:
        Arrays of the shape `array.shape[1:]`, one at a time.

    Raises:
        DataError: if the file is damaged or truncated, after the images before the damage.
    """
    try:
        if array.is_fortran:
            yield from _mapped(path, array)[start:stop]
        elif array.is_compressed:
            with _open_zip(path) as archive, archive.open(f"{array.name}{NPY}") as member:
                _skip(member, array.offset + start * array.image_bytes)
                yield from _read(member, array, stop - start)
        else:
            with storage.open_file(path) as file:
                file.seek(array.offset + start * array.image_bytes)
                yield from _read(file, array, stop - start)
    except _ERRORS as error:
        raise _damaged(path, error) from error


def check_whole(path: str, array: Array) -> None:
    """Checks that a compressed array has its checksum, which is known at its end only.

    Raises:
        DataError: if it has not: any of its images may be wrong.
    """
    try:
        with _open_zip(path) as archive, archive.open(f"{array.name}{NPY}") as member:
            while member.read(2**20):
                pass
    except _ERRORS as error:
        raise _damaged(path, error) from error


def read_labels(path: str, array: Array) -> np.ndarray:
    """Reads a whole array of labels.

    Raises:
        DataError: if it is damaged, or too large for labels.
    """
    if not array.shape or array.image_bytes * array.shape[0] > _MAX_LABEL_BYTES:
        raise DataError(f"{path}: {array} is not an array of labels")
    labels = [np.asarray(label) for label in read_images(path, array, 0, array.shape[0])]
    return np.array(labels).reshape(len(labels))


@functools.lru_cache(maxsize=4)
def _read_index(path: str, status: storage.Status) -> tuple[Array, ...]:
    try:
        if not path.lower().endswith(NPZ):
            with storage.open_file(path) as file:
                return (_read_header("", file, status.size),)
        with _open_zip(path) as archive, storage.open_file(path) as file:
            members = [i for i in archive.infolist() if i.filename.endswith(NPY)]
            if len(members) > MAX_ARRAYS:
                raise DataError(
                    f"{path} has {len(members):,} arrays, more than the limit of {MAX_ARRAYS:,}; "
                    "expected one array of all images, which np.stack(images) gives"
                )
            return tuple(_read_member(archive, info, file, status.size) for info in members)
    except _ERRORS as error:
        raise _damaged(path, error) from error


def _read_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: IO[bytes], file_size: int
) -> Array:
    name = info.filename.removesuffix(NPY)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} has another compression than np.savez_compressed uses")
    if info.file_size > _MAX_RATIO * min(info.compress_size, file_size):
        raise ValueError(f"{name} claims {info.file_size:,} bytes, more than can be compressed")
    if info.compress_type == zipfile.ZIP_DEFLATED or info.flag_bits & 1:
        with archive.open(info) as member:
            return _read_header(name, member, info.file_size)._replace(is_compressed=True)
    file.seek(info.header_offset)
    magic, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    start = file.seek(name_bytes + extra_bytes, os.SEEK_CUR)
    if magic != _LOCAL_MAGIC or start + info.file_size > file_size:
        raise EOFError(f"{name} is truncated")
    return _read_header(name, file, start + info.file_size)


def _read_header(name: str, file: IO[bytes], end: int) -> Array:
    """Reads the header of an array at the position of a file, whose data end at `end`."""
    start = file.tell()
    # NumPy reads a header of gigabytes before it refuses it.
    head = io.BytesIO(file.read(_MAX_HEADER_BYTES))
    version = np.lib.format.read_magic(head)
    if version == (1, 0):
        header = np.lib.format.read_array_header_1_0(head)
    else:
        header = np.lib.format.read_array_header_2_0(head)
    shape, is_fortran, dtype = header
    if any(side < 0 for side in shape):
        raise ValueError(f"the shape {shape} is invalid")
    array = Array(name, shape, dtype, is_fortran and len(shape) > 1, start + head.tell())
    expected = array.offset + (array.image_bytes * shape[0] if shape else dtype.itemsize)
    if expected > end and not dtype.hasobject:
        raise EOFError(f"truncated: {end:,} of {expected:,} bytes")
    return array


def _read(file: IO[bytes], array: Array, count: int) -> Iterator[np.ndarray]:
    for _ in range(count):
        data = file.read(array.image_bytes)
        if len(data) < array.image_bytes:
            raise EOFError("truncated")
        yield np.frombuffer(data, array.dtype).reshape(array.shape[1:])


def _mapped(path: str, array: Array) -> np.ndarray:
    """An array of which an image is not in one piece."""
    if storage.is_uri(path) or array.is_compressed:
        raise DataError(
            f"{path}: {array} is in Fortran order; expected C order, in which "
            "np.ascontiguousarray(x) saves it"
        )
    return np.memmap(path, array.dtype, "r", array.offset, array.shape, "F")


def _skip(file: IO[bytes], count: int) -> None:
    while count:
        part = file.read(min(count, 2**20))
        if not part:
            raise EOFError("truncated")
        count -= len(part)


def _open_zip(path: str) -> zipfile.ZipFile:
    # It closes only a file that it opened itself, and storage refuses pipes and devices.
    storage.open_file(path).close()
    return zipfile.ZipFile(storage.open_file(path) if storage.is_uri(path) else path)


def _damaged(path: str, error: Exception) -> DataError:
    kind = NPZ if path.lower().endswith(NPZ) else NPY
    return DataError(f"cannot read {path} as a {kind}: {one_line(error)}")
