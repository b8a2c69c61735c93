"""Image quality metrics for images of any size in bounded memory, inside a TensorFlow graph."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_ae import metrics
from keras_ae.presets import tile_alignment
from keras_ae.saved_model.tiling import Grid, Span, sizes_of, sum_tiles


class Quality(NamedTuple):
    """The metrics of `keras_ae.metrics`, of M reconstructions of N images: float32 [M, N]."""

    mse: Any
    ssim: Any
    ms_ssim: Any


def measure_quality(images: Any, reconstructions: Any, *, tile: int, scales: int) -> Quality:
    """Compares images with their reconstructions tile by tile, with sums in float64.

    The reconstructions are compared one after the other; what SSIM needs of the originals is
    computed once.

    Args:
        images: uint8 tensor [N, H, W, C].
        reconstructions: M reconstructions of each image, uint8 tensor [M, N, H, W, C].
        tile: maximum side of a tile in pixels; see `keras_ae.presets.check_tile`.
        scales: number of scales of MS-SSIM, 1 to 5.
    """
    count, height, width = sizes_of(images)
    models, channels, margin = tf.shape(reconstructions)[0], images.shape[3], metrics.margin(scales)
    depth = 1 + channels * scales * 2

    def tile_sums(batch: Span, rows: slice, columns: slice) -> Any:
        tile_height, tile_width = rows.stop - rows.start, columns.stop - columns.start
        with_margin = [slice(span.start, span.stop + margin) for span in (rows, columns)]
        index = (batch.times(1), *with_margin)
        reference = metrics.Reference(images[index], tile_height, tile_width, scales, _blur())

        def compare(model: Any) -> Any:
            sums = reference.compare(reconstructions[(model, *index)])
            structural = tf.reshape(sums.structural, (-1, depth - 1))
            return tf.concat([sums.error[:, None], structural], 1)

        if reconstructions.shape[0] == 1:
            return tf.cast(compare(0), tf.float64)
        by_model = tf.map_fn(
            compare, tf.range(models), fn_output_signature=tf.float32, parallel_iterations=1
        )
        by_image = tf.reshape(tf.transpose(by_model, (1, 0, 2)), (-1, models * depth))
        return tf.cast(by_image, tf.float64)

    totals = _sum_pixels(tile_sums, images, tile, tile_alignment(1), models * depth)
    totals = tf.reshape(totals, (count * models, depth))
    values = tf.cast(height, tf.float64) * tf.cast(width, tf.float64) * channels
    sums = tf.reshape(totals[:, 1:], (-1, channels, scales, 2))
    structural = metrics.ssim_from_sums(sums, height, width)
    mse = tf.cast(totals[:, 0] / (values * 255.0**2), tf.float32)
    return Quality(*(tf.transpose(tf.reshape(v, (count, models))) for v in (mse, *structural)))


def patch_mse(images: Any, reconstruct: Callable[[Any], Any], *, tile: int, stride: int) -> Any:
    """Computes the MSE of a reconstruction that treats each patch separately, tile by tile.

    Maps images, uint8 [N, H, W, C], to float32 [N]. `reconstruct` reconstructs tiles, uint8
    [n, h, w, C]; `stride` is the side of a patch in pixels, and `tile` as in `measure_quality`.
    """

    def tile_sums(batch: Span, rows: slice, columns: slice) -> Any:
        pixels = images[batch.times(1), rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        mse = tf.cast(metrics.mse(pixels, reconstruct(pixels)), tf.float64)
        return (mse * tf.cast(area, tf.float64))[:, None]

    total = _sum_pixels(tile_sums, images, tile, tile_alignment(stride), 1)[:, 0]
    _, height, width = (tf.cast(size, tf.float64) for size in sizes_of(images))
    return tf.cast(total / (height * width), tf.float32)


def _sum_pixels(
    tile_sums: Callable[[Span, slice, slice], Any], images: Any, tile: int, step: int, depth: Any
) -> Any:
    """Like `sum_tiles`, with rows and columns in pixels; tiles begin at multiples of `step`."""
    count, height, width = sizes_of(images)
    grid = Grid((count, -(-height // step), -(-width // step)), tile // step)

    def pixel_tile_sums(batch: Span, rows: Span, columns: Span) -> Any:
        spans = [
            slice(span.begin * step, tf.minimum(span.end * step, size))
            for span, size in ((rows, height), (columns, width))
        ]
        return tile_sums(batch, *spans)

    return sum_tiles(pixel_tile_sums, grid, depth)


@functools.cache
def _blur() -> Any:
    """Returns `metrics.blur` as a function that a graph contains only once."""
    # With a copy for each call TensorFlow would take a third longer to prepare `score`.
    return tf.function(
        metrics.blur,
        input_signature=[tf.TensorSpec((None, None, None, None), tf.float32)],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
