"""One or two pictures in all, cut into blocks that are the images."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from keras_ae.datasets.images.levels import FULL_RANGE, White
from keras_ae.datasets.images.normalize import PAGES, PROFILE, decode, decode_deep, examine
from keras_ae.datasets.images.png import encode_png
from keras_ae.datasets.sources.base import Findings, ReadRecord, Record, Shard, Source
from keras_ae.errors import DataError

MAX_PICTURES: Final = 2
"""Maximum number of pictures that are cut."""
MIN_SIDE: Final = 64
"""Minimum side of a block in pixels; that of a tile in training."""
MIN_BLOCKS: Final = 60
"""Number of blocks that a larger side must give."""
MIN_DIFFERENT: Final = 3
"""Minimum number of different blocks: one for each split."""
EQUAL: Final = "blocks equal to others"
_STEP: Final = 8
_MAX_FILES: Final = 16
"""Maximum number of files among which pictures are looked for: others may be no pictures."""
_NOTES: Final = {
    PAGES: "only the first page of {} is read",
    PROFILE: "the colour profile of {} is ignored",
}


class _Picture(NamedTuple):
    record: Record
    pixels: np.ndarray


class BlockSource(Source):
    """The images of another source; if these are one or two good pictures, blocks of them.

    Blocks are squares that do not overlap. Their keys are those of the picture, followed by the row
    and the column of the first pixel, as in photo.jpg#128,0. Blocks are split by the digest of the
    picture and their place in it. Equal blocks count once.

    Args:
        source: the pictures.
        white: the level of floats and 32-bit integers that becomes 255; None if only floats from 0
            to 1 are allowed.
    """

    def __init__(self, source: Source, white: float | None = None) -> None:
        self._source, self._white = source, white
        self._found: Findings | None = None

    def fingerprint(self) -> str:
        return self._source.fingerprint()

    def fingerprint_of(self, records: Iterable[ReadRecord]) -> str:
        return self.fingerprint() if self._found else self._source.fingerprint_of(records)

    def describe_changes(self, names: Iterable[str]) -> str:
        return self._source.describe_changes(
            name.rpartition("#")[0] if self._found else name for name in names
        )

    def findings(self) -> Findings:
        return self._found or self._source.findings()

    def shards(self) -> list[Shard]:
        """The shards of the pictures, or one with all blocks.

        Raises:
            DataError: if there are fewer than `MIN_DIFFERENT` different blocks.
        """
        shards = self._source.shards()
        self._found = None
        self.has_whole_pictures = True
        pictures = self._pictures(shards)
        if not pictures:
            return shards
        side = block_side([picture.pixels.shape[:2] for picture in pictures])
        blocks = list(_cut(pictures, side))
        names = [record.key for record in blocks if record.data]
        if len(names) < MIN_DIFFERENT:
            raise DataError(_too_small(pictures, len(names)))
        self._found = self._findings_of(pictures, side, len(blocks), len(names))
        self.has_whole_pictures = False
        return [tuple(names)]

    def read(self, shard: Shard) -> Iterator[Record]:
        if self._found is None:
            yield from self._source.read(shard)
            return
        pictures = self._pictures(self._source.shards())
        side = block_side([picture.pixels.shape[:2] for picture in pictures])
        yield from (record for record in _cut(pictures, side) if record.data)

    def _pictures(self, shards: list[Shard]) -> list[_Picture]:
        """The pictures, if they are one or two and all of them are good; else none."""
        if sum(map(len, shards)) > _MAX_FILES:
            return []
        pictures: list[_Picture] = []
        for record in (record for shard in shards for record in self._source.read(shard)):
            if record.not_read:
                continue
            if record.fault or len(pictures) == MAX_PICTURES:
                return []
            try:
                pictures.append(_Picture(record, _decode(record.data, self._white)))
            except DataError:
                return []
        return pictures

    def _findings_of(
        self, pictures: list[_Picture], side: int, blocks: int, different: int
    ) -> Findings:
        found = self._source.findings()
        not_read = dict(found.not_read) | (
            {EQUAL: blocks - different} if blocks > different else {}
        )
        notes = [_note(pictures, side, different)]
        for picture in pictures:
            seen = examine(picture.record.data, 3, check_body=False, encode=False).notes
            notes += [_NOTES[note].format(picture.record.key) for note in seen]
        return found._replace(not_read=not_read, notes=tuple(notes))


def block_side(sizes: Iterable[tuple[int, ...]]) -> int:
    """The side of the blocks of pictures in pixels.

    It is the largest multiple of 8 that gives at least `MIN_BLOCKS` blocks, and at least
    `MIN_SIDE`; it does not depend on the stride of the model.

    Args:
        sizes: heights and widths of the pictures.

    >>> block_side([(3000, 4000)]), block_side([(200, 300)])
    (424, 64)
    """
    sizes = list(sizes)
    for side in range(max(map(min, sizes)) // _STEP * _STEP, MIN_SIDE, -_STEP):
        if sum((height // side) * (width // side) for height, width in sizes) >= MIN_BLOCKS:
            return side
    return MIN_SIDE


def _cut(pictures: list[_Picture], side: int) -> Iterator[Record]:
    """The blocks of all pictures; one that is equal to another before it has no data."""
    seen: set[bytes] = set()
    for record, pixels in pictures:
        picture = hashlib.sha256(record.data).hexdigest()
        height, width = pixels.shape[:2]
        for row in range(0, height - side + 1, side):
            for column in range(0, width - side + 1, side):
                block = pixels[row : row + side, column : column + side]
                content = hashlib.sha256(block.tobytes()).digest()
                place = f"#{row},{column}"
                data = b"" if content in seen else encode_png(block)
                seen.add(content)
                block_of = Record(record.key + place, data, "", record.split, record.label)
                yield block_of._replace(identity=(picture + place).encode())


def _decode(data: bytes, white: float | None) -> np.ndarray:
    """The pixels with all levels: uint8 [H, W, 3], or uint16 [H, W, C] with C 1, 3 or 4."""
    deep = decode_deep(data)
    if deep is None or not deep.is_sixteen_bit:
        return decode(data, 3, white=White(None, white))
    if deep.alpha is None:
        return deep.colours
    alpha = deep.alpha.astype(np.uint16) * (FULL_RANGE // 255)
    colours = np.broadcast_to(deep.colours, (*deep.colours.shape[:2], 3))
    return np.concatenate([colours, alpha], -1)


def _note(pictures: list[_Picture], side: int, count: int) -> str:
    names = " and ".join(picture.record.key for picture in pictures)
    one = len(pictures) == 1
    text = f"{names} {'is' if one else 'are'} cut into {count:,} blocks of {side}x{side} pixels"
    if any(picture.record.split for picture in pictures):
        return text
    return (
        f"{text}: train and test come from {'one picture' if one else 'the same two pictures'}, so "
        "that the results may be too good for new pictures"
    )


def _too_small(pictures: list[_Picture], count: int) -> str:
    sizes = " and ".join(
        f"{p.record.key} ({p.pixels.shape[1]}x{p.pixels.shape[0]} pixels)" for p in pictures
    )
    return (
        f"at least {MIN_DIFFERENT} pictures are needed, or one that gives {MIN_DIFFERENT} "
        f"different blocks of {MIN_SIDE}x{MIN_SIDE} pixels, such as one of "
        f"{MIN_DIFFERENT * MIN_SIDE}x{MIN_SIDE}; got {count} different "
        f"block{'' if count == 1 else 's'} from {sizes}"
    )
