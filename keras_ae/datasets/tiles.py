"""Batches of augmented training tiles from decoded images."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from keras_ae.errors import DataError
from keras_ae.presets import TRAIN_TILE

CROPS_PER_IMAGE = 8
CHANNEL_SHUFFLE_PROBABILITY = 0.5
"""Shuffling the channels of RGB tiles lets the model learn colours that are rare in the images."""


class TileSource(Protocol):
    """The interface of training tiles; `Tiles` documents its methods.

    Attributes:
        placement: "in memory" or "streamed".
        size: side of a tile in pixels.
    """

    placement: str
    size: int

    def __len__(self) -> int: ...

    @property
    def batch_sizes(self) -> list[int]: ...

    def epoch(self, epoch: int, first: int = 0) -> Iterator[np.ndarray]: ...


class Tiles:
    """Random augmented tiles of images in memory.

    An epoch has `crops` random crops of each image that is larger than a tile, and each other image
    once. Crops, flips, transposes, channel shuffles and the order depend only on (seed, epoch).
    Images with a side shorter than a tile are padded by reflection.

    Args:
        images: uint8 arrays [H, W, C] with the same C; the augmentation depends on their order.
        stride: the stride of the model; the side of a tile is a multiple of it.
        size: maximum side of a tile in pixels; it is smaller if half of the images are smaller.
        crops: number of crops per epoch of each image that is larger than a tile.
        batch_size: maximum number of tiles in a batch.
        seed: any non-negative integer.

    Raises:
        DataError: if there is no image, or an image is not uint8 [H, W, C].

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
        crops: int = CROPS_PER_IMAGE,
        batch_size: int = 32,
        seed: int = 0,
    ):
        if not len(images):
            raise DataError("training needs at least one image; got none")
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != images[0].shape[2]:
                raise DataError(
                    "images must be uint8 [H, W, C] with the same C; "
                    f"got {image.dtype} {list(image.shape)}"
                )
        sides = np.array([image.shape[:2] for image in images])
        self.size = tile_size(sides, stride, size)
        self.images = [reflect_pad(image, self.size) for image in images]
        self._index = np.repeat(np.arange(len(images)), tile_counts(sides, self.size, crops))
        self._batch_size, self._seed = batch_size, seed

    def __len__(self) -> int:
        """The number of tiles in an epoch."""
        return len(self._index)

    @property
    def batch_sizes(self) -> list[int]:
        """The number of tiles in each batch of an epoch.

        All batches have the same size if a size above half of `batch_size` divides the epoch, since
        backends compile a step for each size. Otherwise the sizes differ by one.
        """
        return batch_sizes(len(self), self._batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[np.ndarray]:
        """Yields the batches of an epoch from index `first`, uint8 [n, size, size, C]."""
        augmentation = self.draw(epoch)
        ends = np.cumsum([0, *self.batch_sizes])[first:]
        for start, end in zip(ends, ends[1:]):
            yield np.stack(
                [
                    crop(self.images[self._index[i]], self.size, augmentation, i)
                    for i in augmentation.order[start:end]
                ]
            )

    def image_of(self, tile: np.ndarray) -> np.ndarray:
        """The index in `images` of the image of each tile, by the index of the tile."""
        return np.asarray(self._index[tile])

    def draw(self, epoch: int) -> "Augmentation":
        """Draws the augmentation parameters of an epoch."""
        return draw_augmentation(len(self), self.images[0].shape[2], self._seed, epoch)


class Augmentation(NamedTuple):
    """Augmentation parameters of an epoch of n tiles, by the index of the tile.

    Attributes:
        positions: float64 [n, 2] in 0..1: of the crop, from the first to the last possible row and
            column.
        flips: bool [n, 2]: whether to flip upside down, and left to right.
        transposes: bool [n]: whether to swap rows and columns after the flips.
        channels: int32 [n, C]: the source of each channel.
        order: int64 [n]: the indices of the tiles in training order.
    """

    positions: np.ndarray
    flips: np.ndarray
    transposes: np.ndarray
    channels: np.ndarray
    order: np.ndarray


def draw_augmentation(tiles: int, channels: int, seed: int, epoch: int) -> Augmentation:
    """Draws the augmentation parameters of an epoch, which depend only on (seed, epoch)."""
    rng = np.random.default_rng((seed, epoch))
    sources = np.tile(np.arange(channels, dtype=np.int32), (tiles, 1))
    shuffled = rng.random(tiles) < CHANNEL_SHUFFLE_PROBABILITY
    sources[shuffled] = rng.permuted(sources[shuffled], axis=1)
    return Augmentation(
        positions=rng.random((tiles, 2)),
        flips=rng.random((tiles, 2)) < 0.5,
        transposes=rng.random(tiles) < 0.5,
        channels=sources,
        order=rng.permutation(tiles),
    )


def crop(image: np.ndarray, size: int, augmentation: Augmentation, index: int) -> np.ndarray:
    """Crops and augments one tile of an image.

    Args:
        image: uint8 [H, W, C] with sides of at least `size`.
        size: side of the tile in pixels.
        augmentation: the parameters of the epoch.
        index: of the tile.

    Returns:
        uint8 [size, size, C].
    """
    position, flip = augmentation.positions[index], augmentation.flips[index]
    top, left = (int(p * (side - size + 1)) for p, side in zip(position, image.shape))
    tile = image[top : top + size, left : left + size]
    tile = tile[:: -1 if flip[0] else 1, :: -1 if flip[1] else 1]
    if augmentation.transposes[index]:
        tile = tile.swapaxes(0, 1)
    return tile[..., augmentation.channels[index]]


def tile_size(sides: np.ndarray, stride: int, max_size: int) -> int:
    """The side of a tile: a multiple of `stride`, at most `max_size`.

    It is smaller if half of the images are smaller.

    Args:
        sides: heights and widths of the images, int [n, 2].
        stride: the stride of the model.
        max_size: maximum side in pixels.
    """
    median_short_side = int(np.median(sides.min(axis=1)))
    return max(stride, min(max_size, median_short_side) // stride * stride)


def tile_counts(sides: np.ndarray, size: int, crops: int) -> np.ndarray:
    """The number of tiles of each image per epoch, int [n]; `sides` are int [n, 2]."""
    return np.where(sides.max(axis=1) > size, crops, 1)


def reflect_pad(image: np.ndarray, size: int) -> np.ndarray:
    """Pads an image [H, W, C] by reflection to sides of at least `size`."""
    missing = [max(0, size - side) for side in image.shape[:2]]
    if not any(missing):
        return image
    return np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")


def batch_sizes(tiles: int, max_size: int) -> list[int]:
    """Splits an epoch into batches.

    All have the same size if a size above half of `max_size` divides the epoch. Otherwise there are
    as few batches as possible, whose sizes differ by at most one.
    """
    for size in range(max_size, max_size // 2, -1):
        if tiles % size == 0:
            return [size] * (tiles // size)
    count = -(-tiles // max_size)
    return [tiles // count + (i < tiles % count) for i in range(count)]
