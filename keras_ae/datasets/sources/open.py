"""Opens sources: a folder, an archive, a TensorFlow dataset or the sample photographs.

A source is small and can be pickled. It lists shards of names, and each worker reads the images of
its shards, so that image data never moves between workers. Folders and archives are at a local path
or at a URI that TensorFlow's filesystem reads.
"""

from pathlib import Path

from keras_ae import storage
from keras_ae.datasets.sources.base import SAMPLE, TFDS_PREFIX, Source, raise_no_image
from keras_ae.datasets.sources.folder import FolderSource
from keras_ae.datasets.sources.names import is_candidate
from keras_ae.errors import DataError


def open_source(data: str, workspace: Path | None = None) -> Source:
    """Opens the source that `data` names.

    Args:
        data: "sample", `tfds:NAME[:VERSION]`, or a folder (searched recursively) or an archive (zip
            or tar), as a path or as a URI such as gs://bucket/images.zip.
        workspace: local folder where the sample photographs are prepared; required to read them.
            Workers on other machines prepare them again.

    Raises:
        DataError: if there is no such source, or no image in it.

    >>> from pathlib import Path
    >>> from PIL import Image
    >>> Path("photos").mkdir()
    >>> Image.new("RGB", (64, 48)).save("photos/sky.png")
    >>> source = open_source("photos")
    >>> [record.key for shard in source.shards() for record in source.read(shard)]
    ['sky.png']
    """
    check(data)
    if data == SAMPLE or data.startswith(TFDS_PREFIX):
        from keras_ae.datasets.sources.tfds import SampleSource, TfdsSource

        return SampleSource(workspace) if data == SAMPLE else TfdsSource(data)
    if storage.is_folder(data):
        return FolderSource(data)
    from keras_ae.datasets.sources.archives import ZIP_SUFFIXES, TarSource, ZipSource

    return ZipSource(data) if data.lower().endswith(ZIP_SUFFIXES) else TarSource(data)


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
        if not any(map(is_candidate, storage.walk_names(data))):
            raise_no_image(data, sum(1 for _ in storage.walk_names(data)))
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
