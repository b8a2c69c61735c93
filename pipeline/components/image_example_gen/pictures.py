"""The pictures that images are files of: files of equal content, and copies that look the same."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from keras_ae import contract as c
from keras_ae import storage
from keras_ae.datasets.images.copies import FIELDS, fields, find_copies
from keras_ae.datasets.images.looks import THUMBNAIL_BYTES, THUMBNAIL_SIDE, Look
from pipeline.components.image_example_gen.checks import Check, thumbnails_file

PERCEPTUAL: Final = "perceptual"
"""The value of `--copies` with which files that look the same are copies, not only those of equal
content."""

_NO_SPLIT = ""
_FIXED = (_NO_SPLIT, *c.SPLITS)
_NO_LOOK = Look(*(0,) * len(Look._fields))
_ROW = np.dtype(
    [*FIELDS.descr, ("shard", np.uint32), ("row", np.uint32), ("fixed", np.uint8), ("look", "?")]
)
_KEPT_THUMBNAILS = 2**14

Thumbnail = Callable[[int, int], bytes]
"""The thumbnail of the image in a row of a shard, with `THUMBNAIL_BYTES`."""


class Pictures(NamedTuple):
    """The pictures of all images.

    Attributes:
        copies: for each image of a picture with several files, by digest of its content, the
            digest of the picture: that of its largest file.
        files: by the split that the source fixes, or an empty string, the number of files of each
            picture.
        unused: number of images without a split in a source that fixes splits.
    """

    copies: dict[str, str]
    files: dict[str, dict[str, int]]
    unused: int

    def count_in(self, splits: Mapping[str, str]) -> tuple[dict[str, int], dict[str, int]]:
        """The number of pictures of each split, and of those of val and test that train has too.

        Args:
            splits: the split of each picture of train, or of all if the source fixes none.
        """
        pictures = {split: set(self.files[split]) for split in (c.VAL, c.TEST)}
        pictures[c.TRAIN] = set()
        for picture, split in splits.items():
            pictures[split].add(picture)
        different = {split: len(pictures[split]) for split in c.SPLITS}
        in_train = {s: len(pictures[s] & pictures[c.TRAIN]) for s in (c.VAL, c.TEST)}
        return different, in_train


class PictureAccumulator:
    """Collects 100 bytes of each image, by which its copies are found."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []

    def add(self, checks: Iterable[Check], shard_index: int) -> None:
        """Adds the good images of a shard."""
        rows = [_row(check, shard_index, row) for row, check in enumerate(checks)]
        self._parts.append(np.array([row for row in rows if row is not None], _ROW))

    def merge(self, other: "PictureAccumulator") -> None:
        """Adds the contents of another accumulator."""
        self._parts += other._parts

    def group(self, thumbnail: Thumbnail) -> Pictures:
        """Groups the images by picture."""
        rows = np.concatenate([np.zeros(0, _ROW), *self._parts])
        used = rows[rows["fixed"] > 0] if rows["fixed"].any() else rows
        _, first, content = np.unique(used["digest"], return_index=True, return_inverse=True)
        contents = used[first]
        largest = _largest(contents, thumbnail)
        digests = [digest.ljust(32, b"\0").hex() for digest in contents["digest"].tolist()]
        pictures = largest[content]
        of_picture = np.bincount(pictures, minlength=len(contents))
        several = np.flatnonzero(of_picture[largest] > 1).tolist()
        files = {}
        for index, split in enumerate(_FIXED):
            numbers = np.unique(pictures[used["fixed"] == index], return_counts=True)
            files[split] = {digests[i]: n for i, n in zip(*(each.tolist() for each in numbers))}
        copies = {digests[i]: digests[largest[i]] for i in several}
        return Pictures(copies, files, len(rows) - len(used))


def thumbnails_in(work_folder: str) -> Thumbnail:
    """Reads the thumbnails that `check_shard` wrote; some are kept in memory."""

    @lru_cache(_KEPT_THUMBNAILS)
    def thumbnail(shard_index: int, row: int) -> bytes:
        with storage.open_file(thumbnails_file(work_folder, shard_index)) as file:
            file.seek(row * THUMBNAIL_BYTES)
            return file.read(THUMBNAIL_BYTES)

    return thumbnail


def _row(check: Check, shard_index: int, row: int) -> tuple[object, ...] | None:
    if check.fault:
        return None
    look = Look(*check.look) if check.look else _NO_LOOK
    level = check.measures[1]
    values = fields(look, check.size, level, bytes.fromhex(check.digest))
    return (*values, shard_index, row, _FIXED.index(check.split or _NO_SPLIT), bool(check.look))


def _largest(contents: np.ndarray, thumbnail: Thumbnail) -> np.ndarray:
    """The index of the largest file of each one's picture, int64 [N]."""
    largest = np.arange(len(contents))
    looked_at = np.flatnonzero(contents["look"])
    images = contents[looked_at]

    def pixels(index: int) -> np.ndarray:
        image = images[index]
        height, width = (min(int(image[side]), THUMBNAIL_SIDE) for side in ("height", "width"))
        data = thumbnail(int(image["shard"]), int(image["row"]))
        return np.frombuffer(data, np.uint8, height * width).reshape(height, width)

    largest[looked_at] = looked_at[find_copies(images, pixels)]
    return largest
