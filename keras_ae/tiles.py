"""Decoded images to batches of tiles, and the only pixel scaling."""

from collections.abc import Iterator, Sequence

import numpy as np
from keras import ops

from keras_ae.errors import DataError

TILE = 64
CROPS = 8
PERMUTED = 0.5
"""Share of the RGB tiles whose channels are shuffled, so that rare colours are learnt too."""


def to_float(images):
    """uint8 pixels 0..255 -> float32 pixels 0..1."""
    return ops.cast(images, "float32") / 255.0


def to_uint8(images):
    """float pixels, clipped to 0..1 -> uint8 pixels 0..255, rounded."""
    return ops.cast(ops.round(ops.clip(images, 0.0, 1.0) * 255.0), "uint8")


class Tiles:
    """Random tiles of images: crops, flips, channels and order come from (seed, epoch) alone.

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
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        *,
        stride: int,
        size: int = TILE,
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
        short = int(np.median([min(image.shape[:2]) for image in images]))
        self.size = max(stride, min(size, short) // stride * stride)
        self._images = [self._grow(image) for image in images]
        larger = [max(image.shape[:2]) > self.size for image in self._images]
        self._index = np.repeat(np.arange(len(images)), np.where(larger, crops, 1))
        self._steps = _steps(len(self._index), batch_size)
        self._seed = seed

    def __len__(self) -> int:
        """Tiles in an epoch."""
        return len(self._index)

    @property
    def steps(self) -> int:
        """Batches in an epoch: of one size if a size above half of the largest divides it evenly,
        for each size is compiled anew; else their sizes differ by one tile."""
        return self._steps

    def epoch(self, epoch: int) -> Iterator[np.ndarray]:
        """Yields the batches of an epoch, uint8 [n, size, size, C]."""
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(self._index)
        places = rng.random((len(order), 2))
        flips = rng.integers(0, 2, (len(order), 2)) * 2 - 1
        channels = self._channel_orders(rng, len(order))
        for part in np.array_split(np.arange(len(order)), self._steps):
            yield np.stack(
                [self._tile(order[i], places[i], flips[i])[..., channels[i]] for i in part]
            )

    def _channel_orders(self, rng: np.random.Generator, count: int) -> np.ndarray:
        orders = np.tile(np.arange(self._images[0].shape[2]), (count, 1))
        shuffled = rng.random(count) < PERMUTED
        orders[shuffled] = rng.permuted(orders[shuffled], axis=1)
        return orders

    def _tile(self, index: int, place: np.ndarray, flip: np.ndarray) -> np.ndarray:
        image, size = self._images[index], self.size
        top = int(place[0] * (image.shape[0] - size + 1))
        left = int(place[1] * (image.shape[1] - size + 1))
        return image[top : top + size, left : left + size][:: flip[0], :: flip[1]]

    def _grow(self, image: np.ndarray) -> np.ndarray:
        missing = [max(0, self.size - side) for side in image.shape[:2]]
        if not any(missing):
            return image
        return np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")


def _steps(tiles: int, batch_size: int) -> int:
    """Batches of an epoch: of one size if a size from half to all of `batch_size` divides it."""
    for size in range(batch_size, batch_size // 2, -1):
        if tiles % size == 0:
            return tiles // size
    return -(-tiles // batch_size)
