"""Images of any size in bounded memory inside a TensorFlow graph: one tile after the other.

A tile is computed with as much around it as has an influence on it, so that it comes out as it
would from the whole image. TensorFlow is imported where it is needed.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from keras_ae.errors import ConfigurationError

SERVING_TILE = 1024
"""Most pixels of a side that go through the model at once, by default."""
ALIGNMENT = 16
"""Pixels that a position of MS-SSIM's coarsest scale stands for, along each side."""


def unit(stride: int) -> int:
    """Pixels of which a tile's side is a multiple."""
    return max(ALIGNMENT, stride)


def check_tile(tile: int, stride: int) -> int:
    """Gives the tile back if it is a positive multiple of the stride and of 16.

    Raises:
        ConfigurationError: if it is not.
    """
    if tile < 1 or tile % unit(stride):
        raise ConfigurationError(
            f"tile must be a positive multiple of {unit(stride)} pixels; got {tile}"
        )
    return tile


class Span(NamedTuple):
    """Begin and end of a tile along one axis, int32 scalar tensors."""

    begin: Any
    end: Any

    def wider(self, reach: int, size: Any) -> "Span":
        """With `reach` more positions on each side, as far as there are any."""
        import tensorflow as tf

        return Span(tf.maximum(self.begin - reach, 0), tf.minimum(self.end + reach, size))

    def times(self, factor: int) -> slice:
        """The same where each position is `factor` positions."""
        return slice(self.begin * factor, self.end * factor)


class Grid:
    """How a batch of images is cut into tiles.

    The tiles of a batch are of one size, but for the last along each axis. Small images share a
    tile as long as they have no more positions than it has.

    Args:
        shape: number of images, rows and columns, int32 scalar tensors.
        side: most rows and columns of a tile.
    """

    def __init__(self, shape: tuple[Any, Any, Any], side: int):
        import tensorflow as tf

        self.shape = shape
        area = tf.maximum(tf.cast(shape[1], tf.int64) * tf.cast(shape[2], tf.int64), 1)
        together = tf.cast(tf.maximum(side * side // area, 1), tf.int32)
        parts = [_parts(size, most) for size, most in zip(shape, (together, side, side))]
        self.counts, self.sizes = (tuple(values) for values in zip(*parts))
        self.number = tf.reduce_prod(self.counts)

    def map(self, tile: Callable[[Span, Span, Span], Any], dtype: Any) -> Any:
        """Computes one tile after the other.

        Args:
            tile: spans of images, rows and columns to a tensor; its shape may not depend on them.
            dtype: of that tensor.

        Returns:
            A tensor [images, rows, columns, *S] of the tiles along each axis and their shape S.
        """
        import tensorflow as tf

        tiles = tf.TensorArray(dtype, self.number)

        def body(i: Any, tiles: Any) -> tuple[Any, Any]:
            column, row = i % self.counts[2], i // self.counts[2] % self.counts[1]
            places = (i // (self.counts[1] * self.counts[2]), row, column)
            spans = [
                Span(place * size, tf.minimum((place + 1) * size, end))
                for place, size, end in zip(places, self.sizes, self.shape)
            ]
            return i + 1, tiles.write(i, tile(*spans))

        loop = (0, tiles)
        _, tiles = tf.while_loop(lambda i, _: i < self.number, body, loop, parallel_iterations=1)
        stacked = tiles.stack()
        return tf.reshape(stacked, tf.concat([self.counts, tf.shape(stacked)[1:]], 0))


def map_tiles(
    function: Callable[[Any], Any],
    inputs: Any,
    grid: Grid,
    *,
    reach: int,
    inside: int,
    outside: int,
    depth: int,
    dtype: Any,
) -> Any:
    """What a function of whole images gives, computed tile by tile.

    Args:
        function: [n, h * inside, w * inside, C] -> [n, h * outside, w * outside, depth]; fewer
            rows and columns at the ends of the input, if it can cope with them.
        inputs: tensor [N, H, W, C].
        grid: of N images of ceil(H / inside) x ceil(W / inside) positions.
        reach: positions to each side that have an influence.
        inside, outside: rows and columns of a position in the input and in the output.
        depth, dtype: of the output.

    Returns:
        Tensor [N, rows * outside, columns * outside, depth].
    """
    import tensorflow as tf

    sizes = [grid.sizes[0], grid.sizes[1] * outside, grid.sizes[2] * outside]

    def tile(images: Span, rows: Span, columns: Span) -> Any:
        wide, long = rows.wider(reach, grid.shape[1]), columns.wider(reach, grid.shape[2])
        part = inputs[images.times(1), wide.times(inside), long.times(inside)]
        core = [
            Span(span.begin - wider.begin, span.end - wider.begin).times(outside)
            for span, wider in ((rows, wide), (columns, long))
        ]
        return _padded(function(part)[:, core[0], core[1]], sizes)

    def in_tiles() -> Any:
        lines = [*grid.counts, *sizes[:2], sizes[2] * depth]
        tiles = _side_by_side(tf.reshape(grid.map(tile, dtype), lines))
        whole = [count * size for count, size in zip(grid.counts, sizes)]
        count, height, width = grid.shape
        return tf.reshape(tiles, [*whole, depth])[:count, : height * outside, : width * outside]

    # A loop of one turn costs a small image a tenth of its time.
    return tf.cond(grid.number > 1, in_tiles, lambda: function(inputs))


def sum_tiles(terms: Callable[[Span, Span, Span], Any], grid: Grid, depth: int) -> Any:
    """Adds up numbers of each image over its tiles, in float64.

    Args:
        terms: spans of n images, rows and columns to float64 [n, depth].
        grid: of N images.

    Returns:
        float64 [N, depth].
    """
    import tensorflow as tf

    def tile(images: Span, rows: Span, columns: Span) -> Any:
        return _padded(terms(images, rows, columns), grid.sizes[:1])

    total = tf.reduce_sum(grid.map(tile, tf.float64), (1, 2))
    return tf.reshape(total, (grid.counts[0] * grid.sizes[0], depth))[: grid.shape[0]]


def _side_by_side(lines: Any) -> Any:
    """Tiles [I, R, C, n, h, w] -> [I, n, R, h, C, w].

    Not by `tf.transpose`: oneDNN complains on the standard error that it does so with floats only.
    """
    import tensorflow as tf

    *sizes, width = tf.unstack(tf.shape(lines))
    place = tf.constant(0)
    for position, axis in enumerate((0, 3, 1, 4, 2)):
        along = tf.range(sizes[axis]) * math.prod(sizes[axis + 1 :])
        place += tf.reshape(along, [-1 if i == position else 1 for i in range(5)])
    return tf.gather(tf.reshape(lines, (math.prod(sizes), width)), place)


def _padded(tensor: Any, sizes: Any) -> Any:
    """Zeros after the end of the first axes up to `sizes`."""
    import tensorflow as tf

    missing = [size - tf.shape(tensor)[axis] for axis, size in enumerate(sizes)]
    missing += [0] * (tensor.shape.rank - len(missing))
    return tf.pad(tensor, [(0, count) for count in missing])


def _parts(size: Any, most: Any) -> tuple[Any, Any]:
    """How many parts of at most `most` make `size`, and how large they are."""
    import tensorflow as tf

    count = tf.maximum(-(-size // most), 1)
    return count, -(-size // count)
