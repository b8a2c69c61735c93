"""Fuzz targets: what code that reads untrusted data must guarantee for any input."""

import io
import itertools
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from keras_ae.codec import file, header
from keras_ae.contract import MAX_PIXELS
from keras_ae.datasets.images.headers import read_header
from keras_ae.datasets.images.levels import OWN_RANGE
from keras_ae.datasets.images.normalize import examine
from keras_ae.datasets.images.structure import check_structure
from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import DataError
from serving.client.images import PNG_SIGNATURE, measure
from serving.client.prepare import prepare

MAX_RECORDS = 100
"""Maximum number of images that are read of an input: some bytes may be very many."""

_FOLDER = tempfile.TemporaryDirectory(prefix="keras-ae-fuzz-")
_NUMBERS = itertools.count()


def headers(data: bytes) -> None:
    """A header is read or refused with a DataError, and agrees with Pillow if both read it."""
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
        # Pillow returns the size of the first frame if that is larger than the screen.
        assert image.width >= header.width, (image.size, header)
        assert image.height >= header.height, (image.size, header)
    elif header.format in ("tiff", "avif"):
        # Pillow turns them, and one container may have several images.
        assert image.width * image.height <= MAX_PIXELS or header.format == "avif"
    else:
        assert image.size == (header.width, header.height), (image.size, header)


def pixels(data: bytes) -> None:
    """An image is decoded, and stored as a PNG or JPEG of the same pixels, or refused."""
    try:
        with warnings.catch_warnings(action="ignore"):
            stored = examine(data, 3, white=OWN_RANGE)
    except DataError as error:
        _one_line(str(error))
        return
    assert read_header(stored.data) == stored.header
    assert stored.header.format in ("png", "jpeg")


def sent(data: bytes) -> None:
    """An image is measured, and prepared for a server or refused, in one line."""
    try:
        measure(data)
        with warnings.catch_warnings(action="ignore"):
            prepared = prepare(data)
    except DataError as error:
        _one_line(str(error))
        return
    assert prepared.data is data or prepared.data.startswith(PNG_SIGNATURE)
    _one_line(prepared.note)


def zips(data: bytes) -> None:
    """A zip gives images or a DataError."""
    _read(data, "zip")


def tars(data: bytes) -> None:
    """A tar, compressed or not, gives images or a DataError."""
    _read(data, "tar")


def arrays(data: bytes) -> None:
    """A .npz or .npy gives images or a DataError."""
    _read(data, "npz" if data.startswith(b"PK") else "npy", MAX_RECORDS)


def tables(data: bytes) -> None:
    """A .parquet gives images or a DataError."""
    _read(data, "parquet", MAX_RECORDS)


def latents(data: bytes) -> None:
    """A .kae file with the right checksum is refused, or its values give the same file again."""
    data = header.seal(data)
    try:
        values, found = file.decode(data)
    except DataError as error:
        _one_line(str(error))
        return
    assert file.read_header(data) == found
    assert file.encode(values, found) == data


def _read(data: bytes, suffix: str, max_records: int | None = None) -> None:
    # A unique name, because the index of an archive is cached by name, size and time.
    path = Path(_FOLDER.name, f"{next(_NUMBERS)}.{suffix}")
    path.write_bytes(data)
    try:
        source = open_source(str(path))
        shards = source.shards()
        images = (record for shard in shards for record in source.read(shard))
        records = list(itertools.islice(images, max_records))
        if max_records is None:
            names = [name for shard in shards for name in shard]
            assert len(set(names)) == len(names) == len(records)
        for record in records:
            assert not (record.fault and record.data)
            _one_line(record.key + record.fault)
    except DataError as error:
        _one_line(str(error))
    finally:
        path.unlink()


def _one_line(text: str) -> None:
    assert text.encode().count(b"\n") == 0, text


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (headers, pixels, sent, zips, tars, arrays, tables, latents)
}
