"""Conversion of decoded pixels to grey or RGB inside a TensorFlow graph."""

from typing import Any

from keras_ae.datasets.images import levels
from keras_ae.datasets.images.decoding_header import (
    BMP,
    PNG_16,
    PNG_COLOUR,
    PNG_GREY_16,
    first_bytes,
)

_BMP_HEADER_BYTES = 70


def to_channels(image: Any, format: Any, data: Any, channels: int, white: int) -> Any:
    """Converts what a decoder returned to grey or RGB with 8 bits, and composites over white.

    Args:
        image: uint8 [H, W, C] with any number of channels; two per sample for 16 bits.
        format: format of `keras_ae.datasets.images.decoding_header.Checked`.
        data: the encoded image.
        channels: 1 or 3.
        white: level of 16-bit images that becomes 255.

    Returns:
        uint8 [H, W, channels].
    """
    import tensorflow as tf

    colours, alpha = tf.case(
        [
            (tf.equal(format, BMP), lambda: _from_bmp(image, data)),
            (tf.equal(format, PNG_16), lambda: _from_sixteen_bits(image, white)),
            (tf.equal(format, PNG_GREY_16), lambda: (_scale(_wide(image), white), _opaque())),
            (tf.equal(format, PNG_COLOUR), lambda: (image[..., :3], _opaque())),
            (tf.equal(tf.shape(image)[-1], 4), lambda: (image[..., :3], image[..., 3:])),
        ],
        default=lambda: (image, _opaque()),
    )
    alpha = tf.ensure_shape(alpha, (None, None, 1))
    composed = tf.cond(tf.size(alpha) > 0, lambda: _over_white(colours, alpha), lambda: colours)
    return tf.ensure_shape(_convert(composed, channels), (None, None, channels))


def _convert(image: Any, channels: int) -> Any:
    """Grey or RGB pixels as pixels of so many channels."""
    import tensorflow as tf

    is_grey = tf.equal(tf.shape(image)[-1], 1)
    if channels == 3:
        return tf.cond(is_grey, lambda: tf.repeat(image, 3, axis=-1), lambda: image)
    return tf.cond(is_grey, lambda: image, lambda: _grey(image))


def _grey(image: Any) -> Any:
    import tensorflow as tf

    products = tf.cast(image, tf.int32) * levels.LUMA
    total = tf.reduce_sum(products, axis=-1, keepdims=True) + levels.LUMA_ROUNDING
    return tf.cast(tf.bitwise.right_shift(total, 16), tf.uint8)


def _over_white(colours: Any, alpha: Any) -> Any:
    import tensorflow as tf

    composed = levels.over_white(
        tf.cast(colours, tf.uint16), tf.cast(alpha, tf.uint16), tf.bitwise.right_shift
    )
    return tf.cast(composed, tf.uint8)


def _opaque() -> Any:
    """No alpha: a tensor without elements, because a branch of a graph cannot return None."""
    import tensorflow as tf

    return tf.zeros((0, 0, 1), tf.uint8)


def _from_sixteen_bits(image: Any, white: int) -> tuple[Any, Any]:
    pixels = _wide(image)
    return _scale(pixels[..., :3], white), _scale(pixels[..., 3:], levels.FULL_RANGE)


def _wide(image: Any) -> Any:
    """Pairs of bytes as 16-bit samples, uint16 [H, W, C / 2]."""
    import tensorflow as tf

    shape = tf.shape(image)
    pairs = tf.reshape(image, tf.concat([shape[:2], [shape[2] // 2, 2]], 0))
    return tf.bitcast(pairs, tf.uint16)


def _scale(pixels: Any, white: int) -> Any:
    import tensorflow as tf

    return tf.gather(tf.constant(levels.scale_table(white)), tf.cast(pixels, tf.int32))


def _from_bmp(image: Any, data: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    colours = _bmp_colours(image, data)
    alpha = tf.cond(_has_bmp_alpha(image, data), lambda: image[..., 3:], lambda: _opaque())
    return colours, alpha


def _has_bmp_alpha(image: Any, data: Any) -> Any:
    """Whether the fourth byte of a pixel is alpha: the header has masks, and this one for it."""
    import tensorflow as tf

    head = first_bytes(data, _BMP_HEADER_BYTES)
    # Size of the header, compression by bit fields, and the mask, which is in longer headers.
    has_masks = (head[14] >= 56) & tf.equal(head[30], 3)
    alpha_mask = tf.reduce_all(tf.equal(head[66:70], [0, 0, 0, 255]))
    return has_masks & alpha_mask & tf.equal(tf.shape(image)[-1], 4)


def _bmp_colours(image: Any, data: Any) -> Any:
    import tensorflow as tf

    def look_up() -> Any:
        # TensorFlow returns indices of a palette, which has 4 bytes per colour, blue first.
        begin = 14 + _little_endian(tf.io.decode_raw(tf.strings.substr(data, 14, 4), tf.uint8))
        begin = tf.clip_by_value(begin, 0, tf.strings.length(data))
        table = tf.io.decode_raw(tf.strings.substr(data, begin, 4 * 256), tf.uint8)
        table = tf.concat([table, tf.zeros((4 * 256,), tf.uint8)], 0)[: 4 * 256]
        table = tf.reshape(table, (256, 4))[:, 2::-1]
        return tf.gather(table, tf.cast(image[..., 0], tf.int32))

    return tf.cond(tf.equal(tf.shape(image)[-1], 1), look_up, lambda: image[..., :3])


def _little_endian(octets: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_sum(tf.cast(octets, tf.int32) * [1, 256, 65536, 16777216])
