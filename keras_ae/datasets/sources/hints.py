"""Messages about files that are not read: what to use instead."""

from collections.abc import Iterable, Mapping
from typing import Final

from keras_ae import storage
from keras_ae.datasets.sources.kinds import ARCHIVE_SUFFIXES, is_hidden, kind_of
from keras_ae.datasets.sources.names import escape_name

_TABLE: Final = (
    "a table: use the folder or archive with the pictures that it names (a picture's folder is its "
    "label), or a .parquet with their bytes in a column"
)
_PICKLE: Final = (
    "which is never loaded, since it can run code: save the images as an array with "
    "np.save('images.npy', images)"
)
_HDF5: Final = (
    "an HDF5 file: np.savez_compressed('images.npz', x_train=file['x_train'][:]) converts it"
)
_ARROW: Final = (
    "an Arrow file of datasets.save_to_disk: "
    "datasets.load_from_disk(FOLDER).to_parquet('train.parquet') converts it "
    "(for a DatasetDict, convert each split)"
)
_VIDEO: Final = "a video: `ffmpeg -i VIDEO FOLDER/%06d.png` writes its frames"
_DATABASE: Final = "a database: write the pictures to a folder or a .zip"
_RECORDS: Final = (
    "TFRecords: tfds:NAME reads a registered dataset; otherwise write the pictures to a folder "
    "or a .zip"
)
_ARCHIVE: Final = "an archive that cannot be read: unpack it, or convert it to a .zip"
_MATLAB: Final = (
    "a MATLAB file: np.save('images.npy', scipy.io.loadmat(FILE)['images']) converts it"
)

_HINTS: Final = {
    _TABLE: "csv tsv json jsonl ndjson txt xml xls xlsx ods feather yaml yml",
    _PICKLE: "pkl pickle joblib pt pth",
    _HDF5: "h5 hdf5",
    _ARROW: "arrow",
    _VIDEO: "mp4 mov avi mkv webm m4v mpg mpeg wmv",
    _DATABASE: "lmdb mdb db sqlite sqlite3",
    _RECORDS: "tfrecord tfrecords",
    _ARCHIVE: "rar 7z gz bz2 xz zst lz4 iso",
    _MATLAB: "mat",
}
_READ_ALONE: Final = (".npy", ".npz", ".parquet")
_BY_SUFFIX = {f".{name}": hint for hint, names in _HINTS.items() for name in names.split()}


def describe_unsupported(path: str, suffixes: Iterable[str]) -> str:
    """The message for a file that is not read, with what to use instead.

    Args:
        path: its path or URI.
        suffixes: of the files that are read.

    >>> describe_unsupported("a.pkl", [])
    "a.pkl is a .pkl, which is never loaded, since it can run code: save the images as an array \
with np.save('images.npy', images)"
    """
    kind = kind_of(path)
    if hint := _BY_SUFFIX.get(kind):
        return f"{path} is {hint if hint != _PICKLE else f'a {kind}, {hint}'}"
    return (
        f"{path} is not a folder, nor an image, nor a file whose name ends in {', '.join(suffixes)}"
    )


def hint_for_folder(path: str, not_read: Mapping[str, int]) -> str:
    """What to do with a folder without images, after a semicolon; empty if there is no advice.

    Args:
        path: its path or URI.
        not_read: number of its files by kind.

    >>> from pathlib import Path
    >>> Path("data").mkdir()
    >>> hint_for_folder("data", {".txt": 5, ".npy": 1})
    '; a .npy is read on its own: --data data/NAME.npy'
    """
    if hint := _archive_hint(path, not_read):
        return hint
    for kind in sorted(not_read, key=lambda kind: (-not_read[kind], kind)):
        if kind in _READ_ALONE and not_read[kind] and storage.is_folder(path):
            return f"; a {kind} is read on its own: --data {path}/NAME{kind}"
        if kind in _BY_SUFFIX and _BY_SUFFIX[kind] not in (_TABLE, _ARCHIVE):
            return f"; {kind} is {_BY_SUFFIX[kind]}"
    return ""


def _archive_hint(folder: str, not_read: Mapping[str, int]) -> str:
    kinds = {kind_of(f"a{suffix}") for suffix in ARCHIVE_SUFFIXES}
    if not kinds & not_read.keys() or not storage.is_folder(folder):
        return ""
    names = (name for name in storage.walk_names(folder) if not is_hidden(name))
    archives = sorted(name for name in names if name.lower().endswith(ARCHIVE_SUFFIXES))
    if not archives:
        return ""
    which = "the archive" if len(archives) == 1 else f"one of the {len(archives):,} archives"
    return f"; to read {which}, give its path: {storage.join(folder, escape_name(archives[0]))}"
