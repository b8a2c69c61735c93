"""Which kind of source `--data` names, by names alone where they suffice."""

from enum import Enum, auto
from typing import Final, NamedTuple

from keras_ae import storage
from keras_ae.datasets.images.headers import looks_like_image
from keras_ae.datasets.sources.base import SAMPLE, TFDS_PREFIX, raise_no_image
from keras_ae.datasets.sources.hints import describe_unsupported
from keras_ae.datasets.sources.kinds import ARCHIVE_SUFFIXES, HEAD_BYTES, has_image_suffix
from keras_ae.datasets.sources.listing import EVERYTHING, Reading, Sorter
from keras_ae.datasets.sources.parts import split_part
from keras_ae.errors import DataError

ZIP_SUFFIXES, TAR_SUFFIXES = ARCHIVE_SUFFIXES[:1], ARCHIVE_SUFFIXES[1:]
ARRAY_SUFFIXES: Final = (".npy", ".npz")
PARQUET_SUFFIXES: Final = (".parquet",)
_SUFFIXES = (*ZIP_SUFFIXES, *TAR_SUFFIXES, *ARRAY_SUFFIXES, *PARQUET_SUFFIXES)
_WITH_PARTS = (".npz", *PARQUET_SUFFIXES)


class Kind(Enum):
    """Kinds of sources."""

    SAMPLE = auto()
    TFDS = auto()
    FOLDER = auto()
    ZIP = auto()
    TAR = auto()
    ARRAY = auto()
    PARQUET = auto()
    PICTURE = auto()


_KINDS: Final = {
    ZIP_SUFFIXES: Kind.ZIP,
    TAR_SUFFIXES: Kind.TAR,
    ARRAY_SUFFIXES: Kind.ARRAY,
    PARQUET_SUFFIXES: Kind.PARQUET,
}


class Location(NamedTuple):
    """Where a source is.

    Attributes:
        kind: of the source.
        path: path or URI of the file or folder; what was given if there is none.
        part: name of the array or column; empty if none was given.
    """

    kind: Kind
    path: str
    part: str = ""


def locate(data: str, reading: Reading = EVERYTHING) -> Location:
    """Finds out which kind of source `data` names, without reading an image.

    Args:
        data: see `keras_ae.datasets.sources.open.open_source`.
        reading: which files of a folder count.

    Raises:
        DataError: if there is no such source, or nothing in it that is read.
    """
    if not data:
        raise DataError("expected a path, tfds:NAME or sample; got an empty string")
    if data == SAMPLE:
        return Location(Kind.SAMPLE, data)
    if data.startswith(TFDS_PREFIX) and len(data) > len(TFDS_PREFIX):
        return Location(Kind.TFDS, data)
    path, part = split_part(data)
    kind = _kind_of_folder(path, reading) if storage.is_folder(path) else _kind_of_file(data, path)
    if part and not (kind == Kind.PARQUET or path.lower().endswith(_WITH_PARTS)):
        with_parts = " and ".join(_WITH_PARTS)
        raise DataError(f"{data}: only {with_parts} have parts to choose by name; got {path}")
    return Location(kind, path, part)


def _kind_of_folder(path: str, reading: Reading) -> Kind:
    """A folder of pictures, or of Parquet files if no other file in it is a picture."""
    sorter = Sorter(reading)
    candidates = []
    for name in storage.walk_names(path):
        if sorter.is_candidate(name):
            if has_image_suffix(name):
                return Kind.FOLDER
            candidates.append(name)
    if any(sorter.not_read[suffix] for suffix in PARQUET_SUFFIXES):
        has_picture = any(_is_image(storage.join(path, name)) for name in candidates)
        return Kind.FOLDER if has_picture else Kind.PARQUET
    if not candidates:
        raise_no_image(path, sorter.not_read)
    return Kind.FOLDER


def _kind_of_file(data: str, path: str) -> Kind:
    if not storage.exists(path):
        raise DataError(
            f"no such folder or archive: {data} (expected a folder, a file such as .zip, .tar, "
            ".npz, .parquet or .jpg, or tfds:NAME)"
        )
    for suffixes, kind in _KINDS.items():
        if path.lower().endswith(suffixes):
            return kind
    if has_image_suffix(path) or _is_image(path):
        return Kind.PICTURE
    raise DataError(describe_unsupported(path, _SUFFIXES))


def _is_image(path: str) -> bool:
    try:
        with storage.open_file(path) as file:
            return looks_like_image(file.peek(HEAD_BYTES))
    except OSError:
        return False
