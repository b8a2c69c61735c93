"""Quality of reconstructions of any size in bounded memory, inside a TensorFlow graph."""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras_ae import metrics
from keras_ae.tiling import Grid, Span, sum_tiles, unit


class Quality(NamedTuple):
    """float32 tensors [N].

    Attributes:
        mse, ssim, ms_ssim: as `keras_ae.metrics` gives them; MS-SSIM is of the scales asked for.
        floor_mse: MSE of what was compared besides, or None.
    """

    mse: Any
    ssim: Any
    ms_ssim: Any
    floor_mse: Any = None


def measure(
    images: Any,
    others: Any,
    *,
    tile: int,
    scales: int,
    floor: Callable[[Any], Any] | None = None,
    stride: int = 1,
) -> Quality:
    """Compares images with their reconstructions, tile by tile, and adds up in float64.

    Args:
        images, others: uint8 tensors [N, H, W, C].
        tile: most pixels of a tile's side, as `keras_ae.tiling.check_tile` allows.
        scales: of MS-SSIM, 1 to 5.
        floor: another reconstruction of a part of the images, uint8 [n, h, w, C], where that
            depends on each patch of stride x stride pixels alone.
        stride: of `floor`.
    """
    import tensorflow as tf

    channels, step, margin = images.shape[3], unit(stride), metrics.margin(scales)
    count, height, width = tf.unstack(tf.shape(images)[:3])
    grid = Grid((count, -(-height // step), -(-width // step)), tile // step)

    def terms(some: Span, rows: Span, columns: Span) -> Any:
        top, left = rows.begin * step, columns.begin * step
        high = tf.minimum(rows.end * step, height) - top
        wide = tf.minimum(columns.end * step, width) - left
        parts = [
            whole[some.times(1), top : top + high + margin, left : left + wide + margin]
            for whole in (images, others)
        ]
        core, other = (part[:, :high, :wide] for part in parts)
        errors = [metrics.mse(core, other)]
        if floor is not None:
            errors.append(metrics.mse(core, floor(core)))
        sums = metrics.structural_sums(parts[0], parts[1], high, wide, scales)
        sums = tf.cast(tf.reshape(sums, (-1, channels * scales * 2)), tf.float64)
        pixels = tf.cast(high * wide, tf.float64)
        return tf.concat([tf.cast(tf.stack(errors, 1), tf.float64) * pixels, sums], 1)

    head = 1 if floor is None else 2
    totals = sum_tiles(terms, grid, head + channels * scales * 2)
    area = tf.cast(height, tf.float64) * tf.cast(width, tf.float64)
    errors = tf.cast(totals[:, :head] / area, tf.float32)
    sums = tf.reshape(totals[:, head:], (-1, channels, scales, 2))
    ssim, ms_ssim = metrics.structural_from_sums(sums, height, width)
    return Quality(errors[:, 0], ssim, ms_ssim, None if floor is None else errors[:, 1])
