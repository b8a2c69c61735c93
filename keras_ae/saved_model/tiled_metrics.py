"""Quality of reconstructions of any size in bounded memory, inside a TensorFlow graph."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from keras_ae import metrics
from keras_ae.saved_model.tiling import Grid, Span, sum_tiles, unit


class Quality(NamedTuple):
    """float32 tensors [M, N] of M reconstructions of N images, as `keras_ae.metrics` gives them.

    MS-SSIM is of the scales asked for.
    """

    mse: Any
    ssim: Any
    ms_ssim: Any


def measure(images: Any, several: Any, *, tile: int, scales: int) -> Quality:
    """Compares images with their reconstructions, tile by tile, and adds up in float64.

    One reconstruction after the other, with the originals' side of SSIM computed once.

    Args:
        images: uint8 tensor [N, H, W, C].
        several: M reconstructions of each, uint8 tensor [M, N, H, W, C].
        tile: most pixels of a tile's side, as `keras_ae.saved_model.tiling.check_tile` allows.
        scales: of MS-SSIM, 1 to 5.
    """
    import tensorflow as tf

    count, height, width = tf.unstack(tf.shape(images)[:3])
    models, channels, margin = tf.shape(several)[0], images.shape[3], metrics.margin(scales)
    depth = 1 + channels * scales * 2

    def terms(some: Span, rows: slice, columns: slice) -> Any:
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        seen = [slice(span.start, span.stop + margin) for span in (rows, columns)]
        part = images[some.times(1), seen[0], seen[1]]
        reference = metrics.Reference(part, high, wide, scales, _blur())

        def compared(model: Any) -> Any:
            sums = reference.sums(several[model, some.times(1), seen[0], seen[1]])
            structural = tf.reshape(sums.structural, (-1, depth - 1))
            return tf.concat([sums.error[:, None], structural], 1)

        if several.shape[0] == 1:
            return tf.cast(compared(0), tf.float64)
        each = tf.map_fn(
            compared, tf.range(models), fn_output_signature=tf.float32, parallel_iterations=1
        )
        by_image = tf.reshape(tf.transpose(each, (1, 0, 2)), (-1, models * depth))
        return tf.cast(by_image, tf.float64)

    totals = _sum_pixels(terms, images, tile, unit(1), models * depth)
    totals = tf.reshape(totals, (count * models, depth))
    numbers = tf.cast(height, tf.float64) * tf.cast(width, tf.float64) * channels
    sums = tf.reshape(totals[:, 1:], (-1, channels, scales, 2))
    structural = metrics.structural_from_sums(sums, height, width)
    mse = tf.cast(totals[:, 0] / (numbers * 255.0**2), tf.float32)
    return Quality(*(tf.transpose(tf.reshape(v, (count, models))) for v in (mse, *structural)))


def error(images: Any, reconstruct: Callable[[Any], Any], *, tile: int, stride: int) -> Any:
    """MSE of a reconstruction that depends on each patch alone, made and compared tile by tile.

    Args:
        images: uint8 tensor [N, H, W, C].
        reconstruct: uint8 [n, h, w, C] -> the same shape, of a part of the images.
        tile: as for `measure`.
        stride: side of a patch in pixels.

    Returns:
        float32 [N].
    """
    import tensorflow as tf

    def terms(some: Span, rows: slice, columns: slice) -> Any:
        part = images[some.times(1), rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        mse = tf.cast(metrics.mse(part, reconstruct(part)), tf.float64)
        return (mse * tf.cast(area, tf.float64))[:, None]

    total = _sum_pixels(terms, images, tile, unit(stride), 1)[:, 0]
    _, height, width = tf.unstack(tf.cast(tf.shape(images)[:3], tf.float64))
    return tf.cast(total / (height * width), tf.float32)


def _sum_pixels(
    terms: Callable[[Span, slice, slice], Any], images: Any, tile: int, step: int, depth: Any
) -> Any:
    """`sum_tiles` over images [N, H, W, C], with rows and columns of pixels; float64 [N, depth]."""
    import tensorflow as tf

    count, height, width = tf.unstack(tf.shape(images)[:3])
    grid = Grid((count, -(-height // step), -(-width // step)), tile // step)

    def of_pixels(some: Span, rows: Span, columns: Span) -> Any:
        spans = [
            slice(span.begin * step, tf.minimum(span.end * step, size))
            for span, size in ((rows, height), (columns, width))
        ]
        return terms(some, *spans)

    return sum_tiles(of_pixels, grid, depth)


@functools.cache
def _blur() -> Any:
    """`metrics.blur` as a function that a graph holds once for all scales and signatures."""
    import tensorflow as tf

    # A copy for each call would take TensorFlow a third longer to prepare `score`.
    return tf.function(
        metrics.blur,
        input_signature=[tf.TensorSpec((None, None, None, None), tf.float32)],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
