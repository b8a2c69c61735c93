"""Finds copies of pictures: files that differ by format, compression or size only.

A perceptual hash proposes pairs, and a comparison of thumbnails confirms them. Two rules keep what
a fixed camera, a scanner or a microscope writes apart, whose images may differ by less than the
compression of a photograph changes:

- Files of the same size and the same encoding differ neither by format, nor by compression, nor by
  resizing of what is recorded in the file. They must be much more similar than other pairs.
- An image that is similar to more than `MAX_SIMILAR` files of one size and encoding belongs to a
  series, such as the frames of a video. Only files with equal pixels are its copies.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from keras_ae.datasets.images.looks import Look, reduce

MAX_DISTANCE = 9
"""Bits of 64 in which the hashes of copies may differ."""
MAX_SIMILAR, SIMILAR_DISTANCE = 2, 4
"""Files of one size and encoding, with hashes that differ in at most so many bits, that an image
may be similar to without being one of a series."""
MAX_LEVEL_DIFFERENCE = 3.0
"""Grey levels by which the means of copies may differ."""
MAX_COLOUR_DIFFERENCE = 5
"""Levels by which red or blue minus green, mean of a quarter of the picture, may differ."""

_BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))
"""First bit and width. Hashes that differ in up to 9 bits differ in at most one bit of a band."""
_NEIGHBOURS = 16
"""Images of a bucket that are compared: those of the most similar brightness."""
_BLOCK = 2**18
_LEVELS = 512.0


class Limits(NamedTuple):
    """How much the thumbnails of two copies may differ.

    Attributes:
        mean: mean absolute difference, as a multiple of the mean absolute difference of
            neighbouring cells plus a level.
        cell: absolute difference of a cell, as a multiple of the range of levels around it. A
            change of format or size changes an edge in part; an object that is in one image only
            changes the levels by their whole range.
        level: difference of the mean levels.
    """

    mean: float
    cell: float
    level: float


OTHER_FILE = Limits(mean=0.5, cell=0.7, level=MAX_LEVEL_DIFFERENCE)
"""For files of different size or encoding: JPEG of quality 50, WebP of 30, GIF, half the size."""
SAME_KIND_OF_FILE = Limits(mean=0.25, cell=0.25, level=1.0)
"""For files of the same size and encoding."""
SMALL_IMAGE = Limits(mean=0.65, cell=1.0, level=MAX_LEVEL_DIFFERENCE)
"""For an image with a side of less than `SMALL_SIDE` pixels: a cell of its thumbnail is about a
pixel, and shows all that JPEG of quality 50 or another way of resizing changes."""
SMALL_SIDE = 64

FIELDS = np.dtype(
    [
        ("hash", np.uint64),
        ("colours", "S12"),
        ("checksum", np.uint32),
        ("encoding", np.uint32),
        ("height", np.uint32),
        ("width", np.uint32),
        ("bytes", np.uint32),
        ("level", np.float64),
        ("digest", "S32"),
    ]
)
"""An image in 80 bytes: its `Look`, the size of its file, its mean grey level, and the SHA-256 of
its content."""


def fields(look: Look, size: int, level: float, digest: bytes) -> tuple[Any, ...]:
    """A row of `FIELDS`.

    Args:
        look: the look of an image.
        size: bytes of its file.
        level: its mean grey level, 0 to 255.
        digest: SHA-256 of its content, 32 bytes.
    """
    colours = look.colours.to_bytes(12, "big")
    return (look.hash, colours, *look[2:], min(size, 2**32 - 1), level, digest)


def find_copies(images: np.ndarray, thumbnail: Callable[[int], np.ndarray]) -> np.ndarray:
    """Finds the picture that each image is a copy of.

    Every copy is compared with the largest image of its picture (the most pixels, then the most
    bytes), so that pictures do not grow along chains of similar images.

    Args:
        images: `FIELDS` [N], with different digests.
        thumbnail: returns the thumbnail of an image by its index, uint8 [h, w].

    Returns:
        int64 [N]: the index of the largest image of each one's picture; its own if it has no copy.
    """
    count = len(images)
    areas = images["height"].astype(np.int64) * images["width"]
    order = np.lexsort((images["digest"], -images["bytes"].astype(np.int64), -areas))
    ranked = images[order]
    pictures = _equal_pixels(ranked)
    first = np.flatnonzero(pictures == np.arange(count))
    thumbnails = _Thumbnails(ranked, lambda rank: thumbnail(int(order[rank])))
    for rank, others in _candidates(ranked[first]):
        _join(pictures, int(first[rank]), first[others], thumbnails)
    pictures = pictures[pictures]
    found = np.empty(count, np.int64)
    found[order] = order[pictures]
    return found


def mismatch(a: np.ndarray, b: np.ndarray, limits: Limits) -> float:
    """The largest difference of two thumbnails, uint8 [h, w], relative to limits."""
    height, width = (min(sides) for sides in zip(a.shape, b.shape))
    one, other = (reduce(each, height, width).astype(np.float64) for each in (a, b))
    differences = np.abs(one - other)
    relative_mean = differences.mean() / (max(_detail(one), _detail(other)) + 1)
    local_range = np.maximum(_local_range(one), _local_range(other))
    relative_cell = ((differences - 2) / (local_range + 6)).max()
    level = abs(one.mean() - other.mean())
    return float(
        max(relative_mean / limits.mean, relative_cell / limits.cell, level / limits.level)
    )


class _Thumbnails:
    """Compares images by rank."""

    def __init__(self, images: np.ndarray, thumbnail: Callable[[int], np.ndarray]):
        self._images, self._thumbnail = images, thumbnail

    def mismatch(self, rank: int, other: int) -> float:
        one, two = self._images[["height", "width", "encoding"]][[rank, other]].tolist()
        if min(*one[:2], *two[:2]) < SMALL_SIDE:
            limits = SMALL_IMAGE
        else:
            limits = SAME_KIND_OF_FILE if one == two else OTHER_FILE
        return mismatch(self._thumbnail(rank), self._thumbnail(other), limits)


def _join(pictures: np.ndarray, rank: int, others: np.ndarray, thumbnails: _Thumbnails) -> None:
    """Assigns an image to the most similar picture among those of larger, similar images."""
    mismatches = {
        picture: thumbnails.mismatch(rank, picture)
        for picture in sorted({int(pictures[other]) for other in others})
    }
    best = min(mismatches, key=lambda picture: mismatches[picture])
    if mismatches[best] <= 1:
        pictures[rank] = best


def _equal_pixels(images: np.ndarray) -> np.ndarray:
    """The index of the first image with the same pixels as each one."""
    keys = images[["hash", "checksum", "height", "width", "level"]]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    equal: np.ndarray = first[inverse]
    return equal


def _candidates(images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields images, and the images before them that they may be copies of."""
    before, after = near_pairs(images["hash"], images["level"])
    series = _in_series(images, before, after)
    keep = ~series[before] & ~series[after] & _may_be_copies(images, before, after)
    before, after = before[keep], after[keep]
    order = np.lexsort((before, after))
    ranks, starts = np.unique(after[order], return_index=True)
    yield from zip(ranks.tolist(), np.split(before[order], starts[1:]))


def _in_series(images: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Which images are similar to more than `MAX_SIMILAR` files of one size and encoding."""
    _, kinds = np.unique(images[["height", "width", "encoding"]], return_inverse=True)
    similar = _distances(images["hash"], before, after) <= SIMILAR_DISTANCE
    before, after = before[similar], after[similar]
    pairs = np.stack([np.r_[before, after], kinds[np.r_[after, before]]], 1)
    keys, counts = np.unique(pairs, axis=0, return_counts=True)
    series = np.zeros(len(images), bool)
    series[keys[counts > MAX_SIMILAR, 0]] = True
    return series


def _may_be_copies(images: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Which pairs have about the same colours, and the same aspect ratio up to rounding."""
    tints = _tints(images[before]), _tints(images[after])
    colours = np.abs(tints[0] - tints[1]).max(1, initial=0) <= MAX_COLOUR_DIFFERENCE
    levels = np.abs(images["level"][before] - images["level"][after]) <= MAX_LEVEL_DIFFERENCE
    heights, widths = (images[side].astype(np.float64) for side in ("height", "width"))
    # A resized image has the width w * H / h, where w and H are rounded by up to one pixel.
    error = np.abs(widths[before] * heights[after] - widths[after] * heights[before])
    aspects = error <= np.maximum(heights[before], widths[before])
    similar: np.ndarray = colours & levels & aspects
    return similar


def _tints(images: np.ndarray) -> np.ndarray:
    """Red and blue minus green of each quarter, int16 [N, 8]."""
    octets = np.ascontiguousarray(images["colours"]).view(np.uint8)
    colours = octets.reshape(-1, 4, 3).astype(np.int16)
    tints: np.ndarray = (colours[..., ::2] - colours[..., 1:2]).reshape(len(images), 8)
    return tints


def near_pairs(hashes: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of hashes that differ in at most `MAX_DISTANCE` bits.

    By the pigeonhole principle they differ in at most one bit of one of the bands. Of a bucket of
    equal bands, an image is paired with at most `_NEIGHBOURS`, so that the work is bounded.

    Args:
        hashes: uint64 [N].
        levels: mean grey levels, float [N], 0 to 255.

    Returns:
        The lower and the higher index of each pair, int64 [P] each, in ascending order.
    """
    count = len(hashes)
    found = [np.zeros(0, np.int64)]
    for shift, width in _BANDS:
        values = ((hashes >> np.uint64(shift)) & np.uint64(2**width - 1)).astype(np.int64)
        keys = values * _LEVELS + levels
        order = np.argsort(keys, kind="stable")
        for flip in (0, *(1 << bit for bit in range(width))):
            # Each pair with a flipped bit is found from the image where the bit is 0.
            sources = np.flatnonzero(values & flip == 0)
            for begin in range(0, len(sources), _BLOCK):
                block = sources[begin : begin + _BLOCK]
                one, other = _bucket_pairs(block, values[block] ^ flip, levels, keys, order)
                near = (one != other) & (_distances(hashes, one, other) <= MAX_DISTANCE)
                one, other = one[near], other[near]
                found.append(np.minimum(one, other) * count + np.maximum(one, other))
    pairs = np.unique(np.concatenate(found))
    return pairs // max(count, 1), pairs % max(count, 1)


def _bucket_pairs(
    images: np.ndarray, buckets: np.ndarray, levels: np.ndarray, keys: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs each image with the images of a bucket that have the most similar levels."""
    ascending = keys[order]
    low = np.searchsorted(ascending, buckets * _LEVELS)
    high = np.searchsorted(ascending, buckets * _LEVELS + _LEVELS)
    own = np.searchsorted(ascending, buckets * _LEVELS + levels[images])
    start = np.maximum(low, own - _NEIGHBOURS // 2)
    counts = np.maximum(np.minimum(high, own + _NEIGHBOURS // 2 + 1) - start, 0)
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(images, counts), order[np.repeat(start, counts) + offsets]


def _distances(hashes: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    distances: np.ndarray = np.bitwise_count(hashes[one] ^ hashes[other])
    return distances


def _detail(small: np.ndarray) -> float:
    """Mean absolute difference of neighbouring cells."""
    steps = [np.abs(np.diff(small, axis=axis)).mean() for axis in (0, 1)]
    return float(np.mean(steps))


def _local_range(small: np.ndarray) -> np.ndarray:
    """Highest minus lowest level of the 3 x 3 cells around each cell."""
    padded = np.pad(small, 1, mode="edge")
    height, width = small.shape
    around = np.stack([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)])
    ranges: np.ndarray = around.max(0) - around.min(0)
    return ranges
