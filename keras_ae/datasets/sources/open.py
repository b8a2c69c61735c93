"""Where images come from: a folder, an archive, a TensorFlow dataset or the sample photographs.

A source is small and can be pickled: it lists shards of names, and reads the images of a shard
where it is asked to, so that bytes never travel between workers. Folders and archives lie on this
machine or at a URI that TensorFlow's filesystem reads.
"""

from pathlib import Path

from keras_ae import storage
from keras_ae.datasets.sources.base import (
    SAMPLE,
    TFDS_PREFIX,
    Source,
    no_image,
)
from keras_ae.datasets.sources.folder import FolderSource
from keras_ae.datasets.sources.names import is_looked_at
from keras_ae.errors import DataError


def open_source(data: str, workspace: Path | None = None) -> Source:
    """Finds the source that `data` names.

    Args:
        data: "sample", a folder (searched recursively), a zip or tar, each a path or a URI that
            TensorFlow's filesystem reads, such as gs://bucket/images.zip, or `tfds:NAME[:VERSION]`.
        workspace: folder where the sample photographs are prepared; needed to read them. It is one
            of this machine: workers on other machines prepare them anew.

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
    """Tells at once what is wrong with `data`; TensorFlow datasets are looked up when opened.

    Raises:
        DataError: if there is no such folder or archive, or no image in the folder, or a URI
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
        if not any(map(is_looked_at, storage.names_below(data))):
            no_image(data, sum(1 for _ in storage.names_below(data)))
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
