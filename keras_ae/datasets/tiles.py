"""Decoded images to batches of tiles."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from keras_ae.errors import DataError
from keras_ae.presets import TRAIN_TILE

CROPS = 8
PERMUTED = 0.5
"""Share of the RGB tiles whose channels are shuffled, so that rare colours are learnt too."""


class TileSource(Protocol):
    """What training asks of its tiles; see `Tiles` for each of these.

    Attributes:
        placement: where the images are: "in memory" or "streamed".
    """

    placement: str
    size: int

    def __len__(self) -> int: ...

    @property
    def batch_sizes(self) -> list[int]: ...

    def epoch(self, epoch: int, first: int = 0) -> Iterator[np.ndarray]: ...


class Tiles:
    """Random tiles of images; crops, flips, turns, channels, order come from (seed, epoch) alone.

    An epoch holds `crops` random crops of each image that is larger than a tile, and each other
    image once. Images with a side shorter than a tile are continued by reflection.

    Args:
        images: uint8 arrays [H, W, C] with the same C; their order matters to what is drawn.
        stride: the model's; the side of a tile is a multiple of it.
        size: side of a tile in pixels; smaller if half of the images are smaller than that.
        crops: crops of each larger image in an epoch.
        batch_size: largest number of tiles in a batch.
        seed: any non-negative integer.

    Raises:
        DataError: if there is no image, or one that is not uint8 [H, W, C].

    >>> images = [np.zeros((200, 300, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)]
    >>> tiles = Tiles(images, stride=8, crops=8)
    >>> len(tiles), tiles.batch_sizes
    (9, [9])
    >>> next(tiles.epoch(0)).shape
    (9, 64, 64, 3)
    """

    placement = "in memory"

    def __init__(
        self,
        images: Sequence[np.ndarray],
        *,
        stride: int,
        size: int = TRAIN_TILE,
        crops: int = CROPS,
        batch_size: int = 32,
        seed: int = 0,
    ):
        if not len(images):
            raise DataError("training needs at least one image; got none")
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != images[0].shape[2]:
                raise DataError(
                    "images must be uint8 [H, W, C] with one C; "
                    f"got {image.dtype} {list(image.shape)}"
                )
        sides = np.array([image.shape[:2] for image in images])
        self.size = tile_size(sides, stride, size)
        self.images = [reflect_pad(image, self.size) for image in images]
        self._index = np.repeat(np.arange(len(images)), tile_counts(sides, self.size, crops))
        self._batch_size, self._seed = batch_size, seed

    def __len__(self) -> int:
        """Tiles in an epoch."""
        return len(self._index)

    @property
    def batch_sizes(self) -> list[int]:
        """Tiles in each batch of an epoch: all alike if a size above half of the largest divides
        the epoch evenly, for each size is compiled anew; else they differ by one tile."""
        return batch_sizes(len(self), self._batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[np.ndarray]:
        """Yields the batches of an epoch from number `first`, uint8 [n, size, size, C]."""
        draws = self.draw(epoch)
        ends = np.cumsum([0, *self.batch_sizes])[first:]
        for start, end in zip(ends, ends[1:]):
            yield np.stack(
                [
                    cut(self.images[self._index[i]], self.size, *(part[i] for part in draws[:-1]))
                    for i in draws.order[start:end]
                ]
            )

    def image_of(self, tile: np.ndarray) -> np.ndarray:
        """The position in `images` that each tile is cut from, by the tile's number."""
        return np.asarray(self._index[tile])

    def draw(self, epoch: int) -> "Augmentation":
        """What chance decides in an epoch."""
        return draw(len(self), self.images[0].shape[2], self._seed, epoch)


class Augmentation(NamedTuple):
    """Augmentation parameters of an epoch of n tiles, by the tile's number but for `order`.

    Attributes:
        places: float64 [n, 2] in 0..1, from the first to the last possible row and column.
        flips: bool [n, 2], upside down and left to right.
        turns: bool [n], rows become columns, after the flips.
        channels: int32 [n, C], which channel becomes which.
        order: int64 [n], the numbers of the tiles as they come.
    """

    places: np.ndarray
    flips: np.ndarray
    turns: np.ndarray
    channels: np.ndarray
    order: np.ndarray


def draw(tiles: int, channels: int, seed: int, epoch: int) -> Augmentation:
    """Draws the augmentation parameters of an epoch from (seed, epoch) alone."""
    rng = np.random.default_rng((seed, epoch))
    orders = np.tile(np.arange(channels, dtype=np.int32), (tiles, 1))
    shuffled = rng.random(tiles) < PERMUTED
    orders[shuffled] = rng.permuted(orders[shuffled], axis=1)
    return Augmentation(
        rng.random((tiles, 2)),
        rng.random((tiles, 2)) < 0.5,
        rng.random(tiles) < 0.5,
        orders,
        rng.permutation(tiles),
    )


def cut(
    image: np.ndarray,
    size: int,
    place: np.ndarray,
    flip: np.ndarray,
    turn: np.bool_,
    channels: np.ndarray,
) -> np.ndarray:
    """One tile of an image [H, W, C] with sides of at least `size`, as a view where it can be."""
    top, left = (int(p * (side - size + 1)) for p, side in zip(place, image.shape))
    tile = image[top : top + size, left : left + size]
    tile = tile[:: -1 if flip[0] else 1, :: -1 if flip[1] else 1]
    return (tile.swapaxes(0, 1) if turn else tile)[..., channels]


def tile_size(sides: np.ndarray, stride: int, largest: int) -> int:
    """The side of a tile: a multiple of `stride` up to `largest`, less if half of the images are
    shorter; `sides` are the images' heights and widths, int [n, 2]."""
    short = int(np.median(sides.min(axis=1)))
    return max(stride, min(largest, short) // stride * stride)


def tile_counts(sides: np.ndarray, size: int, crops: int) -> np.ndarray:
    """The tiles that an epoch takes of each image, int [n]; `sides` are int [n, 2]."""
    return np.where(sides.max(axis=1) > size, crops, 1)


def reflect_pad(image: np.ndarray, size: int) -> np.ndarray:
    """Continues an image [H, W, C] by reflection where a side is shorter than `size`."""
    missing = [max(0, size - side) for side in image.shape[:2]]
    if not any(missing):
        return image
    return np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")


def batch_sizes(tiles: int, largest: int) -> list[int]:
    """Cuts an epoch into batches of one size if a size from half to all of `largest` divides it,
    else into the fewest whose sizes differ by one."""
    for size in range(largest, largest // 2, -1):
        if tiles % size == 0:
            return [size] * (tiles // size)
    count = -(-tiles // largest)
    return [tiles // count + (i < tiles % count) for i in range(count)]
