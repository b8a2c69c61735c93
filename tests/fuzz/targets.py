"""What the readers of foreign bytes must keep to, whatever the bytes are."""

import io
import itertools
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from keras_ae.contract import MAX_PIXELS
from keras_ae.datasets.images.headers import read_header
from keras_ae.datasets.images.structure import check_structure
from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import DataError

_FOLDER = tempfile.TemporaryDirectory(prefix="keras-ae-fuzz-")
_NUMBERS = itertools.count()


def headers(data: bytes) -> None:
    """A header is read or refused by a DataError, and says what Pillow says where both read it."""
    try:
        header = read_header(data)
        assert 0 < header.width * header.height <= MAX_PIXELS
        check_structure(data, header)
    except DataError as error:
        _one_line(str(error))
        return
    try:
        with warnings.catch_warnings(action="ignore"):
            image = Image.open(io.BytesIO(data), formats=[header.format])
    except Exception:
        return
    if header.format == "gif":
        # It is as large as its first frame, if that is larger than the screen.
        assert image.width >= header.width, (image.size, header)
        assert image.height >= header.height, (image.size, header)
    else:
        assert image.size == (header.width, header.height), (image.size, header)


def zips(data: bytes) -> None:
    """Images come out of a zip, or a DataError."""
    _read(data, "zip")


def tars(data: bytes) -> None:
    """Images come out of a tar, compressed or not, or a DataError."""
    _read(data, "tar")


def _read(data: bytes, suffix: str) -> None:
    # A name of its own: what is known of an archive is remembered by its name, size and time.
    path = Path(_FOLDER.name, f"{next(_NUMBERS)}.{suffix}")
    path.write_bytes(data)
    try:
        source = open_source(str(path))
        shards = source.shards()
        names = [name for shard in shards for name in shard]
        assert len(set(names)) == len(names)
        records = [record for shard in shards for record in source.read(shard)]
        assert len(records) == len(names)
        for record in records:
            assert not (record.fault and record.data)
            _one_line(record.key + record.fault)
    except DataError as error:
        _one_line(str(error))
    finally:
        path.unlink()


def _one_line(text: str) -> None:
    assert text.encode().count(b"\n") == 0, text


TARGETS: dict[str, Callable[[bytes], None]] = {"headers": headers, "zips": zips, "tars": tars}
