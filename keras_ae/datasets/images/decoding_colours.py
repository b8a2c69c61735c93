"""Conversion of decoded pixels to grey or RGB inside a TensorFlow graph."""

from typing import Any

from keras_ae.datasets.images import levels
from keras_ae.datasets.images.decoding_header import (
    BMP,
    PNG_GREY_16,
    first_bytes,
)

_BMP_HEADER_BYTES = 70


def from_decoder(image: Any, format: Any, data: Any, channels: int) -> Any:
    """Converts what the decoder of PNG to WEBP returned to 8 bits and so many channels.

    Args:
        image: uint8 [H, W, C] with any number of channels.
        format: format of `keras_ae.datasets.images.decoding_header.Checked`.
        data: the encoded image.
        channels: 1 or 3.

    Returns:
        uint8 [H, W, channels], composited over white.
    """
    import tensorflow as tf

    colours, alpha = tf.case(
        [
            (tf.equal(format, BMP), lambda: _from_bmp(image, data)),
            (tf.equal(tf.shape(image)[-1], 4), lambda: (image[..., :3], image[..., 3:])),
        ],
        default=lambda: (image, _opaque()),
    )
    return _compose(colours, alpha, channels)


def from_png_decoder(image: Any, format: Any, channels: int, white: int) -> Any:
    """The same for a decoder of PNG_GREY_16 to PNG_COLOUR; two values per sample for 16 bits.

    `white` is the level of 16-bit images that becomes 255.
    """
    import tensorflow as tf

    colours, alpha = tf.switch_case(
        format - PNG_GREY_16,
        [
            lambda: (_scale(_wide(image), white), _opaque()),
            lambda: _from_sixteen_bits(image, white),
            lambda: (image[..., :3], image[..., 3:]),
            lambda: (image, _opaque()),
        ],
    )
    return _compose(colours, alpha, channels)


def _compose(colours: Any, alpha: Any, channels: int) -> Any:
    import tensorflow as tf

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

    # The sums are whole numbers below 2**24, which are exact, and faster than integers.
    red, green, blue = (
        tf.cast(image[..., i : i + 1], tf.float32) * weight for i, weight in enumerate(levels.LUMA)
    )
    total = red + green + blue + levels.LUMA_ROUNDING
    return tf.cast(tf.floor(total / 65536), tf.uint8)


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
