"""Decoding of images inside a TensorFlow graph, where a bad image does not fail the others."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_ae import contract as c
from keras_ae.datasets.images.decoding_colours import from_decoder, from_png_decoder
from keras_ae.datasets.images.decoding_gif import GIF_END
from keras_ae.datasets.images.decoding_header import (
    CORRUPT,
    JPEG_MAGIC,
    PNG_GREY_16,
    TOO_LARGE,
    Checked,
    check_header,
)
from keras_ae.datasets.images.levels import FULL_RANGE


def decode_each(encoded: Any, channels: int, white: int = FULL_RANGE) -> tuple[Any, Any, Any]:
    """Decodes each valid image of a batch; checks the size in the header before decoding.

    Alpha is composited over white, and 16-bit levels are scaled to 8 bits. EXIF orientation and the
    transparency of a GIF are ignored. This function must be traced by `tf.function` with autograph.

    Args:
        encoded: string tensor [N]: PNG, JPEG, BMP, WebP or GIF (first frame).
        channels: 1 or 3.
        white: level of 16-bit images that becomes 255, 1 to 65535.

    Returns:
        A TensorArray of N uint8 images [H, W, channels], 0 x 0 for a bad image; their heights and
        widths, int32 [N, 2]; the statuses, string [N], empty for a good image.
    """
    import tensorflow as tf

    # The function has no Python loops or branches on tensors that autograph would need to convert.
    check = tf.autograph.experimental.do_not_convert(lambda data: check_header(data, channels))
    signature = Checked(
        *(tf.int32, tf.string, tf.int32, tf.string),
        canvas=tf.TensorSpec((4,), tf.int32),
    )
    formats, faults, ends, frames, canvases = tf.map_fn(
        check, encoded, fn_output_signature=signature
    )
    count = tf.shape(encoded)[0]
    pixels = tf.TensorArray(
        tf.uint8,
        count,
        element_shape=(None, None, channels),
        infer_shape=False,
        clear_after_read=False,
    )
    for i in tf.range(count):
        pixels = pixels.write(i, tf.zeros((0, 0, channels), tf.uint8))
    sizes = tf.zeros((count, 2), tf.int32)
    status = tf.where(tf.equal(faults, ""), CORRUPT, faults)
    if tf.reduce_any(tf.not_equal(frames, "")):
        encoded = tf.where(tf.equal(frames, ""), encoded, frames)
    is_png_kind = formats >= PNG_GREY_16
    total, fits = tf.constant(0, tf.int64), tf.constant(True)
    if not tf.reduce_all(is_png_kind):
        # An image with a fault is replaced by an empty string, which fails and is skipped below.
        allowed = tf.where(tf.equal(faults, "") & ~is_png_kind, encoded, "")
        for index, raw in _decodable(_decoders(ends, channels), allowed, formats):
            i = tf.cast(index, tf.int32)
            image = from_decoder(raw, formats[i], encoded[i], channels)
            image, total, fits = _within_limit(_on_canvas(image, canvases[i]), total)
            pixels = pixels.write(i, image)
            sizes = tf.tensor_scatter_nd_update(sizes, [[i]], tf.shape(image)[None, :2])
            status = tf.tensor_scatter_nd_update(status, [[i]], _status(image, fits))
            if not fits:
                # Do not decode the rest, which could take arbitrarily long.
                rest = tf.equal(faults, "") & (is_png_kind | (tf.range(count) > i))
                status = tf.where(rest, c.TOO_MANY_PIXELS, status)
                break
    if fits and tf.reduce_any(is_png_kind):
        # Their decoders are in a dataset of their own, because all others would wait for them.
        allowed = tf.where(tf.equal(faults, "") & is_png_kind, encoded, "")
        for index, raw in _decodable(_png_decoders(), allowed, formats - PNG_GREY_16):
            i = tf.cast(index, tf.int32)
            image = from_png_decoder(raw, formats[i], channels, white)
            image, total, fits = _within_limit(image, total)
            pixels = pixels.write(i, image)
            sizes = tf.tensor_scatter_nd_update(sizes, [[i]], tf.shape(image)[None, :2])
            status = tf.tensor_scatter_nd_update(status, [[i]], _status(image, fits))
            if not fits:
                rest = tf.equal(faults, "") & is_png_kind & (tf.range(count) > i)
                status = tf.where(rest, c.TOO_MANY_PIXELS, status)
                break
    return pixels, sizes, status


def _within_limit(image: Any, total: Any) -> tuple[Any, Any, Any]:
    """The image, without pixels if it does not fit; the number of pixels with it; if it fits."""
    import tensorflow as tf

    total += tf.reduce_prod(tf.shape(image, out_type=tf.int64)[:2])
    fits = total <= c.MAX_REQUEST_PIXELS
    # A few encoded megabytes may decode to gigabytes, so keep no pixels beyond the limit.
    return image[: tf.where(fits, tf.shape(image)[0], 0)], total, fits


def _status(image: Any, fits: Any) -> Any:
    """The status of a decoded image, string [1]."""
    import tensorflow as tf

    status = tf.where(fits, tf.where(tf.size(image) > 0, "", TOO_LARGE), c.TOO_MANY_PIXELS)
    return status[None]


def _on_canvas(image: Any, canvas: Any) -> Any:
    """A frame on its white canvas (top, left, height and width); unchanged if that is 0 x 0."""
    import tensorflow as tf

    def padded() -> Any:
        top, left, height, width = tf.unstack(canvas)
        rows = [top, tf.maximum(height - top - tf.shape(image)[0], 0)]
        columns = [left, tf.maximum(width - left - tf.shape(image)[1], 0)]
        return tf.pad(image, [rows, columns, [0, 0]], constant_values=tf.constant(255, tf.uint8))

    on_canvas = tf.cond(tf.reduce_any(canvas > 0), padded, lambda: image)
    return tf.ensure_shape(on_canvas, (None, None, image.shape[-1]))


def _decoders(ends: Any, channels: int) -> list[Callable[[Any, Any], Any]]:
    """The decoders of PNG to WEBP, of an encoded image and its index."""
    import tensorflow as tf

    def gif(data: Any, index: Any) -> Any:
        return tf.io.decode_gif(tf.strings.substr(data, 0, tf.gather(ends, index)) + GIF_END)[0]

    return [
        lambda data, _: tf.io.decode_png(data, channels=channels),
        lambda data, _: _decode_jpeg_within_limit(data),
        lambda data, _: tf.io.decode_bmp(data),
        gif,
        lambda data, _: tf.io.decode_webp(data)[0],
    ]


def _png_decoders() -> list[Callable[[Any, Any], Any]]:
    """The decoders of PNG_GREY_16 to PNG_COLOUR."""
    import tensorflow as tf

    def sixteen_bits(data: Any, channels: int) -> Any:
        # The branches need one type, so each sample is a pair of bytes.
        image = tf.io.decode_png(data, channels=channels, dtype=tf.uint16)
        pairs = tf.bitcast(image, tf.uint8)
        return tf.reshape(pairs, tf.concat([tf.shape(image)[:2], [2 * channels]], 0))

    return [
        lambda data, _: sixteen_bits(data, 1),
        lambda data, _: sixteen_bits(data, 4),
        lambda data, _: tf.io.decode_png(data, channels=4),
        # Not with alpha: TensorFlow adds a wrong one to a palette of fewer than 8 bits.
        lambda data, _: tf.io.decode_png(data, channels=3),
    ]


def _decodable(decoders: list[Callable[[Any, Any], Any]], encoded: Any, which: Any) -> Any:
    """An iterator over the index and the pixels, as decoded, of each good image.

    Only `tf.data` can continue after an error, by `ignore_errors`. TensorFlow instantiates the
    functions of a dataset at every request. That takes 14 ms because they contain only what must be
    here and default optimizations are off; it took 190 ms otherwise. The body of a loop over the
    iterator belongs to the caller's graph and does not count.

    Args:
        decoders: functions of an encoded image and its index.
        encoded: string [N].
        which: int32 [N], index of the decoder for each image.
    """
    import tensorflow as tf

    def pixels(index: Any, data: Any, decoder: Any) -> tuple[Any, Any]:
        branches = [lambda decode=decode: decode(data, index) for decode in decoders]
        return index, tf.ensure_shape(tf.switch_case(decoder, branches), (None, None, None))

    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    indices = tf.range(tf.shape(encoded, out_type=tf.int64)[0])
    images = tf.data.Dataset.from_tensor_slices((indices, encoded, which))
    pixels = tf.autograph.experimental.do_not_convert(pixels)
    return iter(images.map(pixels, num_parallel_calls=2).ignore_errors().with_options(options))


def decode_stored(data: Any, channels: int) -> Any:
    """Decodes an image that ingest has checked and normalized, inside a graph.

    Args:
        data: string scalar tensor: a PNG or JPEG with that many channels.
        channels: 1 or 3.

    Returns:
        uint8 [H, W, channels].
    """
    import tensorflow as tf

    return tf.cond(
        tf.equal(tf.strings.substr(data, 0, 3), JPEG_MAGIC),
        lambda: _decode_jpeg(data, channels),
        lambda: tf.io.decode_png(data, channels=channels),
    )


def decode_bytes(data: bytes, channels: int) -> np.ndarray:
    """Decodes an image eagerly to the same pixels as `decode_stored`.

    Args:
        data: a PNG or JPEG with that many channels.
        channels: 1 or 3.

    Returns:
        uint8 [H, W, channels].

    Raises:
        tf.errors.InvalidArgumentError: if the image cannot be decoded.
    """
    import tensorflow as tf

    # With bytes instead of a tensor, TensorFlow takes a path that is slower by 50 microseconds.
    encoded = tf.constant(data)
    if data.startswith(JPEG_MAGIC):
        pixels = _decode_jpeg(encoded, channels)
    else:
        pixels = tf.io.decode_png(encoded, channels=channels)
    return np.asarray(pixels.numpy())


def _decode_jpeg_within_limit(data: Any) -> Any:
    """Decodes a JPEG to RGB, or to 0 x 0 pixels if it is too large.

    The size of a JPEG may be anywhere in the file, so `_header` cannot check it.
    """
    import tensorflow as tf

    size = tf.cast(tf.image.extract_jpeg_shape(data)[:2], tf.int64)
    return tf.cond(
        tf.reduce_prod(size) <= c.MAX_PIXELS,
        lambda: _decode_jpeg(data, 3),
        lambda: tf.zeros((0, 0, 3), tf.uint8),
    )


def _decode_jpeg(data: Any, channels: int) -> Any:
    import tensorflow as tf

    # The default method is faster, but differs from other decoders by several grey levels. The
    # fraction is the default, 1, as a float: an int is slow, see `decode_bytes`.
    return tf.io.decode_jpeg(
        data, channels=channels, acceptable_fraction=1.0, dct_method="INTEGER_ACCURATE"
    )
