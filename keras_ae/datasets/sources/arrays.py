"""Images in NumPy arrays: .npy and .npz files at a path or URI."""

import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_ae import storage
from keras_ae.contract import MAX_PIXELS
from keras_ae.datasets.images.headers import MAX_BYTES
from keras_ae.datasets.images.levels import check_numbers, scale_numbers
from keras_ae.datasets.images.png import encode_png
from keras_ae.datasets.sources import npy
from keras_ae.datasets.sources.array_choice import (
    EXPECTED,
    OBJECTS,
    Chosen,
    candidates_in,
    choose,
)
from keras_ae.datasets.sources.base import Findings, Record, Shard, Source, equal_ranges
from keras_ae.datasets.sources.names import escape_name
from keras_ae.datasets.sources.npy import Array
from keras_ae.datasets.sources.parts import fingerprint_of_file
from keras_ae.errors import DataError

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class ArraySource(Source):
    """The images of an array, or of several that are named after splits, such as x_train.

    Images become PNGs: with 8 bits, or with 16 bits for uint16. Floats and other integers are
    scaled to 8 bits.

    Attributes:
        path: path or URI of a .npy or .npz file.
        key: name of the array in a .npz; empty to choose by the names.
        keep_splits: whether arrays that are named after splits are the splits.
        white: the level of floats, and of integers other than uint8 and uint16, that becomes 255;
            None if only floats from 0 to 1 are allowed.
    """

    has_folders = False

    path: str
    key: str = ""
    keep_splits: bool = True
    white: float | None = None

    def fingerprint(self) -> str:
        return fingerprint_of_file(self.path)

    def describe_changes(self, names: Iterable[str]) -> str:
        return "the file was changed or replaced"

    def findings(self) -> Findings:
        chosen = self._chosen()
        others = candidates_in(npy.read_index(self.path)) if len(chosen) > 1 else []
        return Findings(
            {f"in {escape_name(a.name)}": a.shape[0] for a in others if a.name not in chosen}
        )

    def shards(self) -> list[Shard]:
        chosen = self._chosen()
        for array, _, labels in chosen.values():
            # Damage is found here, and not in a worker.
            _read_labels(self.path, storage.get_status(self.path), labels)
            if array.is_compressed:
                npy.check_whole(self.path, array)
        return [
            (name, str(start), str(stop))
            for name, (array, *_) in chosen.items()
            for start, stop in _ranges(array)
        ]

    def read(self, shard: Shard) -> Iterator[Record]:
        array, split, labels = self._chosen()[shard[0]]
        start, stop = int(shard[1]), int(shard[2])
        texts = _read_labels(self.path, storage.get_status(self.path), labels)
        name = escape_name(array.name or storage.name(self.path)[: -len(npy.NPY)])
        for index, image in enumerate(self._encode(array, start, stop), start):
            label = texts[index] if texts else None
            yield image._replace(key=f"{name}/{index:06d}", split=split, label=label)

    def _encode(self, array: Array, start: int, stop: int) -> Iterator[Record]:
        """The images as PNGs, or the reasons why they cannot be read; without their keys."""
        done = start
        try:
            for pixels in npy.read_images(self.path, array, start, stop):
                done += 1
                yield encode_image(pixels, self.white)
        except DataError as error:
            yield from itertools.repeat(Record("", b"", str(error)), stop - done)

    def _chosen(self) -> Mapping[str, Chosen]:
        status = storage.get_status(self.path)
        return _choose(self.path, status, self.key, self.keep_splits)


def encode_image(pixels: np.ndarray, white: float | None) -> Record:
    """Encodes an image as a PNG, or says why it cannot be; its identity is that of its levels.

    Args:
        pixels: [H, W] or [H, W, C], C 1, 3 or 4, of integers or floats.
        white: see `ArraySource`.
    """
    if pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2:
        try:
            if white is None:
                check_numbers(pixels)
        except DataError as error:
            return Record("", b"", str(error))
        pixels = scale_numbers(pixels, white or 1)
    levels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    identity = hashlib.sha256(f"{levels.dtype.str} {levels.shape[:2]} ".encode())
    identity.update(levels.data)
    return Record("", encode_png(pixels), identity=identity.digest())


@functools.lru_cache(maxsize=4)
def _choose(path: str, status: storage.Status, key: str, keep_splits: bool) -> Mapping[str, Chosen]:
    arrays = npy.read_index(path)
    if path.lower().endswith(npy.NPZ):
        chosen = choose(path, arrays, key, keep_splits)
    else:
        chosen = {array.name: Chosen(array, None, None) for array in arrays}
    for array, *_ in chosen.values():
        _check(path, array)
    return chosen


@functools.lru_cache(maxsize=4)
def _read_labels(path: str, status: storage.Status, array: Array | None) -> Sequence[str]:
    if array is None:
        return ()
    labels = npy.read_labels(path, array).tolist()
    texts = (x.decode(errors="replace") if isinstance(x, bytes) else str(x) for x in labels)
    return [escape_name(text) for text in texts]


def _ranges(array: Array) -> Iterator[tuple[int, int]]:
    count = array.shape[0]
    # A compressed array can only be read from its beginning.
    return iter([(0, count)]) if array.is_compressed else equal_ranges(array.image_bytes, count)


def _check(path: str, array: Array) -> None:
    """Raises a DataError if an array cannot be a batch of images."""
    what = f"{path}: {EXPECTED}; got {array}"
    shape = array.shape
    if array.dtype.hasobject:
        raise DataError(f"{what}; {OBJECTS}")
    if array.dtype.kind == "b":
        raise DataError(f"{what}: convert it with x * np.uint8(255)")
    if array.dtype.kind not in "uif":
        raise DataError(f"{what}: convert it with x.astype(np.uint8) or to floats from 0 to 1")
    if len(shape) == 2 or (len(shape) == 3 and shape[-1] in _CHANNELS):
        raise DataError(f"{what}, which looks like one image: save it as a PNG")
    if len(shape) == 4 and shape[-1] not in _CHANNELS and shape[1] in _CHANNELS:
        raise DataError(f"{what}: save x.transpose(0, 2, 3, 1), with the channels last")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[-1] not in _CHANNELS):
        raise DataError(what)
    if 0 in shape:
        raise DataError(f"{what}, which has no pixels")
    if shape[1] * shape[2] > MAX_PIXELS or array.image_bytes > MAX_BYTES:
        raise DataError(f"{what}, with more than {MAX_PIXELS:,} pixels in an image")
