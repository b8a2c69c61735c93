"""Computes images of any size in bounded memory inside a TensorFlow graph, tile by tile.

Each tile is computed together with its receptive field, so that the result is the same as for the
whole image.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf


class Span(NamedTuple):
    """Beginning and end of a tile along one axis, int32 scalar tensors."""

    begin: Any
    end: Any

    def widen(self, radius: int, size: Any) -> "Span":
        """Adds `radius` positions on each side, within an axis of `size` positions."""
        return Span(tf.maximum(self.begin - radius, 0), tf.minimum(self.end + radius, size))

    def times(self, factor: int) -> slice:
        """Returns the slice of an axis with `factor` elements per position."""
        return slice(self.begin * factor, self.end * factor)


def sizes_of(tensor: Any) -> tuple[Any, Any, Any]:
    """Returns the numbers of images, rows and columns as scalar tensors."""
    return tuple(tf.unstack(tf.shape(tensor)[:3]))


class Grid:
    """Splits a batch of images into tiles.

    All tiles have one size, except for the last ones along each axis. A tile contains several small
    images, if together they have no more positions than a full tile.

    Args:
        shape: numbers of images, rows and columns, int32 scalar tensors.
        side: maximum number of rows and of columns of a tile.
    """

    def __init__(self, shape: tuple[Any, Any, Any], side: int):
        self.shape = shape
        area = tf.maximum(tf.cast(shape[1], tf.int64) * tf.cast(shape[2], tf.int64), 1)
        images_per_tile = tf.cast(tf.maximum(side * side // area, 1), tf.int32)
        max_sizes = (images_per_tile, side, side)
        self.counts = tuple(tf.maximum(-(-n // most), 1) for n, most in zip(shape, max_sizes))
        self.sizes = tuple(-(-n // count) for n, count in zip(shape, self.counts))
        self.number = tf.reduce_prod(self.counts)

    def map(self, compute_tile: Callable[[Span, Span, Span], Any], dtype: Any) -> Any:
        """Computes one tile after the other, from its spans of images, rows and columns.

        Each gives a tensor of the same shape S; the result is [*counts, *S], with the numbers of
        tiles along each axis.
        """
        tiles = tf.TensorArray(dtype, self.number)

        def body(i: Any, tiles: Any) -> tuple[Any, Any]:
            column, row = i % self.counts[2], i // self.counts[2] % self.counts[1]
            indices = (i // (self.counts[1] * self.counts[2]), row, column)
            spans = [
                Span(index * size, tf.minimum((index + 1) * size, end))
                for index, size, end in zip(indices, self.sizes, self.shape)
            ]
            return i + 1, tiles.write(i, compute_tile(*spans))

        _, tiles = tf.while_loop(
            lambda i, _: i < self.number, body, (0, tiles), parallel_iterations=1
        )
        stacked = tiles.stack()
        return tf.reshape(stacked, tf.concat([self.counts, tf.shape(stacked)[1:]], 0))


def map_tiles(
    function: Callable[[Any], Any],
    inputs: Any,
    grid: Grid,
    *,
    radius: int,
    input_scale: int,
    output_scale: int,
    depth: int,
    dtype: Any,
) -> Any:
    """Applies a function of whole images tile by tile.

    Args:
        function: maps [n, h * input_scale, w * input_scale, C] to
            [n, h * output_scale, w * output_scale, depth]. At the end of an axis, the input may
            have fewer rows or columns than a whole number of positions.
        inputs: tensor [N, H, W, C].
        grid: grid of N images of ceil(H / input_scale) x ceil(W / input_scale) positions.
        radius: radius of the function's receptive field, in positions.
        input_scale, output_scale: rows and columns of a position in the input and in the output.
        depth, dtype: depth and dtype of the output.

    Returns:
        Tensor [N, rows * output_scale, columns * output_scale, depth].
    """
    sizes = [grid.sizes[0], grid.sizes[1] * output_scale, grid.sizes[2] * output_scale]

    def compute_tile(images: Span, rows: Span, columns: Span) -> Any:
        wide_rows, wide_columns = (
            span.widen(radius, size) for span, size in zip((rows, columns), grid.shape[1:])
        )
        field = inputs[
            images.times(1), wide_rows.times(input_scale), wide_columns.times(input_scale)
        ]
        core = [
            Span(span.begin - wide.begin, span.end - wide.begin).times(output_scale)
            for span, wide in ((rows, wide_rows), (columns, wide_columns))
        ]
        return _pad_end(function(field)[:, core[0], core[1]], sizes)

    def in_tiles() -> Any:
        tile_shape = [*grid.counts, *sizes[:2], sizes[2] * depth]
        tiles = _assemble_tiles(tf.reshape(grid.map(compute_tile, dtype), tile_shape))
        padded_shape = [count * size for count, size in zip(grid.counts, sizes)]
        count, height, width = (grid.shape[0], *(s * output_scale for s in grid.shape[1:]))
        return tf.reshape(tiles, [*padded_shape, depth])[:count, :height, :width]

    # For a single tile the loop is skipped: it would take a tenth of the time of a small image.
    return tf.cond(grid.number > 1, in_tiles, lambda: function(inputs))


def sum_tiles(tile_sums: Callable[[Span, Span, Span], Any], grid: Grid, depth: int) -> Any:
    """Adds up values of each of N images over its tiles: float64 [N, depth].

    `tile_sums` maps the spans of n images, rows and columns of a tile to float64 [n, depth].
    """

    def compute_tile(images: Span, rows: Span, columns: Span) -> Any:
        return _pad_end(tile_sums(images, rows, columns), grid.sizes[:1])

    total = tf.reduce_sum(grid.map(compute_tile, tf.float64), (1, 2))
    return tf.reshape(total, (grid.counts[0] * grid.sizes[0], depth))[: grid.shape[0]]


def _assemble_tiles(tiles: Any) -> Any:
    """Transposes tiles [I, R, C, n, h, w] to [I, n, R, h, C, w].

    It gathers rows instead of using `tf.transpose`, for which oneDNN prints a warning if the tensor
    is not of floats.
    """
    *sizes, width = tf.unstack(tf.shape(tiles))
    index = tf.constant(0)
    for new_axis, axis in enumerate((0, 3, 1, 4, 2)):
        offsets = tf.range(sizes[axis]) * math.prod(sizes[axis + 1 :])
        index += tf.reshape(offsets, [-1 if i == new_axis else 1 for i in range(5)])
    return tf.gather(tf.reshape(tiles, (math.prod(sizes), width)), index)


def _pad_end(tensor: Any, sizes: Any) -> Any:
    """Appends zeros along the first axes until they have `sizes` elements."""
    missing = [size - tf.shape(tensor)[axis] for axis, size in enumerate(sizes)]
    missing += [0] * (tensor.shape.rank - len(missing))
    return tf.pad(tensor, [(0, count) for count in missing])
