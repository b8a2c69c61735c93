"""Opens sources: folders, archives, arrays, TensorFlow datasets and the sample photographs.

A source is small and can be pickled. It lists shards of names, and each worker reads the images of
its shards, so that image data never moves between workers. Files and folders are at a local path or
at a URI that TensorFlow's filesystem reads.
"""

from collections.abc import Iterable
from pathlib import Path

from keras_ae import storage
from keras_ae.datasets.sources import splits as split_modes
from keras_ae.datasets.sources.base import Source
from keras_ae.datasets.sources.folder import FolderSource
from keras_ae.datasets.sources.listing import Reading, make_reading
from keras_ae.datasets.sources.locate import Kind, Location, locate
from keras_ae.errors import DataError


def open_source(
    data: str,
    workspace: Path | None = None,
    *,
    splits: str = split_modes.AUTO,
    exclude: Iterable[str] = (),
    follow_links: bool = False,
    white: float | None = None,
    leave_out: Iterable[str] = (),
    blocks: bool = False,
) -> Source:
    """Opens the source that `data` names.

    Args:
        data: "sample", `tfds:NAME[:VERSION]`, or a folder (searched recursively), an archive (zip
            or tar), arrays (.npy, .npz or FILE.npz:KEY) or tables (.parquet, FILE.parquet:COLUMN or
            a folder of them) or a single picture, as a path or as a URI such as
            gs://bucket/images.zip.
        workspace: local folder where the sample photographs are prepared; required to read them.
            Workers on other machines prepare them again.
        splits: "auto" to keep splits that the data have (folders such as train, val and test, or
            the splits of a TensorFlow dataset), "folders" to insist on folders, or "hash" to ignore
            them.
        exclude: patterns, as of `fnmatch`, of relative paths of files or folders to leave out.
        follow_links: whether to follow links to folders, and out of the folder.
        white: the level of floats and 32-bit integers in arrays that becomes 255; None if only
            floats from 0 to 1 are allowed.
        leave_out: relative paths of folders to leave out without counting their files.
        blocks: whether one or two pictures in a folder or an archive are cut into blocks, see
            `keras_ae.datasets.sources.blocks.BlockSource`; a single picture always is.

    Raises:
        DataError: if there is no such source, no image in it, or if it cannot have these options.
        ConfigurationError: for an unknown way to split.

    >>> from pathlib import Path
    >>> from PIL import Image
    >>> Path("photos").mkdir()
    >>> Image.new("RGB", (64, 48)).save("photos/sky.png")
    >>> source = open_source("photos")
    >>> [record.key for shard in source.shards() for record in source.read(shard)]
    ['sky.png']
    """
    reading = make_reading(splits, exclude, follow_links, leave_out)
    found = locate(data, reading)
    if found.kind in (Kind.FOLDER, Kind.ZIP, Kind.TAR):
        if follow_links and (found.kind != Kind.FOLDER or storage.is_uri(data)):
            raise DataError(f"--follow-links needs a folder on this machine; got {data}")
        files = _open_files(found, reading)
        return _blocks_of(files, white) if blocks else files
    _check_dataset_options(found, data, reading)
    keep = splits != split_modes.HASH
    if found.kind == Kind.ARRAY:
        from keras_ae.datasets.sources.arrays import ArraySource

        return ArraySource(found.path, found.part, keep, white)
    if found.kind == Kind.PARQUET:
        from keras_ae.datasets.sources.parquet import ParquetSource

        return ParquetSource(found.path, found.part, keep, reading)
    if found.kind == Kind.PICTURE:
        from keras_ae.datasets.sources.picture import PictureSource

        return _blocks_of(PictureSource(found.path), white)
    from keras_ae.datasets.sources.tfds import SampleSource, TfdsSource

    return SampleSource(workspace, keep) if found.kind == Kind.SAMPLE else TfdsSource(data, keep)


def check(data: str) -> None:
    """Checks `data` early; a TensorFlow dataset is only looked up when it is read.

    Raises:
        DataError: if the folder or archive does not exist, the folder has no image, or the URI
            cannot be read.

    >>> check("sample")
    >>> check("nowhere.zip")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    keras_ae.errors.DataError: no such folder or archive: nowhere.zip (expected a folder, ...)
    """
    locate(data)


def _open_files(found: Location, reading: Reading) -> Source:
    """Opens pictures in a folder or an archive."""
    if found.kind == Kind.FOLDER:
        return FolderSource(found.path, reading)
    from keras_ae.datasets.sources.archives import TarSource, ZipSource

    is_zip = found.kind == Kind.ZIP
    return ZipSource(found.path, reading) if is_zip else TarSource(found.path, reading)


def _blocks_of(source: Source, white: float | None) -> Source:
    from keras_ae.datasets.sources.blocks import BlockSource

    return BlockSource(source, white)


def _check_dataset_options(found: Location, data: str, reading: Reading) -> None:
    tables = found.kind == Kind.PARQUET and storage.is_folder(found.path)
    flags = {
        "--splits folders": reading.splits == split_modes.FOLDERS,
        "--exclude": bool(reading.exclude) and not tables,
        "--follow-links": reading.follow_links,
    }
    for flag, is_set in flags.items():
        if is_set:
            raise DataError(f"{flag} needs a folder or an archive of pictures; got {data}")
