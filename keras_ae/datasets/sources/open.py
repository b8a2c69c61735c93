"""Opens sources: a folder, an archive, a TensorFlow dataset or the sample photographs.

A source is small and can be pickled. It lists shards of names, and each worker reads the images of
its shards, so that image data never moves between workers. Folders and archives are at a local path
or at a URI that TensorFlow's filesystem reads.
"""

from collections.abc import Iterable
from pathlib import Path

from keras_ae import storage
from keras_ae.datasets.sources import splits as split_modes
from keras_ae.datasets.sources.base import SAMPLE, TFDS_PREFIX, Source, raise_no_image
from keras_ae.datasets.sources.folder import FolderSource
from keras_ae.datasets.sources.listing import EVERYTHING, Reading, Sorter, make_reading
from keras_ae.errors import DataError


def open_source(
    data: str,
    workspace: Path | None = None,
    *,
    splits: str = split_modes.AUTO,
    exclude: Iterable[str] = (),
    follow_links: bool = False,
) -> Source:
    """Opens the source that `data` names.

    Args:
        data: "sample", `tfds:NAME[:VERSION]`, or a folder (searched recursively) or an archive (zip
            or tar), as a path or as a URI such as gs://bucket/images.zip.
        workspace: local folder where the sample photographs are prepared; required to read them.
            Workers on other machines prepare them again.
        splits: "auto" to keep splits that the data have (folders such as train, val and test, or
            the splits of a TensorFlow dataset), "folders" to insist on folders, or "hash" to ignore
            them.
        exclude: patterns, as of `fnmatch`, of relative paths of files or folders to leave out.
        follow_links: whether to follow links to folders, and out of the folder.

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
    reading = make_reading(splits, exclude, follow_links)
    check(data)
    if data == SAMPLE or data.startswith(TFDS_PREFIX):
        from keras_ae.datasets.sources.tfds import SampleSource, TfdsSource

        _check_dataset_options(data, reading)
        keep = splits != split_modes.HASH
        return SampleSource(workspace, keep) if data == SAMPLE else TfdsSource(data, keep)
    is_folder = storage.is_folder(data)
    if follow_links and (not is_folder or storage.is_uri(data)):
        raise DataError(f"--follow-links needs a folder on this machine; got {data}")
    if is_folder:
        return FolderSource(data, reading)
    from keras_ae.datasets.sources.archives import ZIP_SUFFIXES, TarSource, ZipSource

    is_zip = data.lower().endswith(ZIP_SUFFIXES)
    return ZipSource(data, reading) if is_zip else TarSource(data, reading)


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
    from keras_ae.datasets.sources.archives import TAR_SUFFIXES, ZIP_SUFFIXES

    if data == SAMPLE or (data.startswith(TFDS_PREFIX) and len(data) > len(TFDS_PREFIX)):
        return
    if storage.is_folder(data):
        sorter = Sorter(EVERYTHING)
        if not any(map(sorter.is_candidate, storage.walk_names(data))):
            raise_no_image(data, sorter.not_read)
    elif not storage.exists(data):
        raise DataError(
            f"no such folder or archive: {data} "
            "(expected a folder, a .zip or .tar file, or tfds:NAME)"
        )
    elif not data.lower().endswith((*ZIP_SUFFIXES, *TAR_SUFFIXES)):
        raise DataError(
            f"{data} is not a folder, nor an archive whose name ends in "
            f"{', '.join((*ZIP_SUFFIXES, *TAR_SUFFIXES))}"
        )


def _check_dataset_options(data: str, reading: Reading) -> None:
    flags = {
        "--splits folders": reading.splits == split_modes.FOLDERS,
        "--exclude": bool(reading.exclude),
        "--follow-links": reading.follow_links,
    }
    for flag, is_set in flags.items():
        if is_set:
            raise DataError(f"{flag} needs a folder or an archive; got {data}")
