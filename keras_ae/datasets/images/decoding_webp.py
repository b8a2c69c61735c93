"""The first frame of an animated WebP as a WebP of its own, made inside a TensorFlow graph.

TensorFlow 2.21 was seen to corrupt its heap when it decodes an animated WebP. See RFC 9649 for the
container.
"""

from typing import Any

_MAX_CHUNKS = 64
"""Number of chunks before the first frame that are skipped."""
_FRAME_HEADER_BYTES = 16
_ALPHA_FLAG = 0x10


def is_animated_webp(head: Any) -> Any:
    """Whether an image is an animated WebP, from its first bytes, int32 [at least 21]."""
    import tensorflow as tf

    marks = tf.concat([head[:4], head[8:16]], 0)
    extended = tf.reduce_all(tf.equal(marks, list(b"RIFFWEBPVP8X")))
    return extended & (tf.bitwise.bitwise_and(head[20], 0x02) > 0)


def first_webp_frame(data: Any) -> tuple[Any, tuple[Any, Any, Any, Any]]:
    """Cuts the first frame out of an animated WebP.

    Args:
        data: string scalar tensor.

    Returns:
        The frame as a WebP that is not animated, string, which is empty or cannot be decoded if
        there is no frame; top, left, height and width of the frame, int32.
    """
    import tensorflow as tf

    last = tf.strings.length(data)

    def part(offset: Any, count: Any) -> Any:
        return tf.strings.substr(data, tf.minimum(offset, last), count)

    def is_other(offset: Any, steps: Any) -> Any:
        return tf.not_equal(part(offset, 4), "ANMF") & (offset < last) & (steps > 0)

    def skip(offset: Any, steps: Any) -> tuple[Any, Any]:
        size = _size(part(offset + 4, 4))
        # A chunk of an odd size is followed by a byte of padding.
        end = tf.cast(offset, tf.int64) + 8 + size + size % 2
        return tf.cast(tf.minimum(end, tf.cast(last, tf.int64)), tf.int32), steps - 1

    offset, _ = tf.while_loop(is_other, skip, (tf.minimum(12, last), _MAX_CHUNKS))
    size = tf.minimum(_size(part(offset + 4, 4)), tf.cast(last, tf.int64))
    body = part(
        offset + 8 + _FRAME_HEADER_BYTES,
        tf.maximum(tf.cast(size, tf.int32) - _FRAME_HEADER_BYTES, 0),
    )
    octets = tf.reshape(_octets(part(offset + 8, 12), 12), (4, 3))
    left, top, width, height = tf.unstack(tf.linalg.matvec(octets, [1, 256, 65536]))
    frame = _simple_webp(body, part(offset + 14, 6))
    # A frame begins at an even row and column.
    return frame, (2 * top, 2 * left, height + 1, width + 1)


def _simple_webp(chunks: Any, size: Any) -> Any:
    """A WebP of the chunks of a frame; separate alpha needs the header that gives the size."""
    import tensorflow as tf

    extended = b"VP8X" + (10).to_bytes(4, "little") + bytes([_ALPHA_FLAG, 0, 0, 0])
    has_alpha = tf.equal(tf.strings.substr(chunks, 0, 4), "ALPH")
    body = tf.strings.join([tf.where(has_alpha, tf.strings.join([extended, size]), ""), chunks])
    return tf.strings.join(["RIFF", _four_bytes(4 + tf.strings.length(body)), "WEBP", body])


def _octets(text: Any, count: int) -> Any:
    """So many bytes, int32 [count]; missing ones are zeros."""
    import tensorflow as tf

    octets = tf.concat([tf.io.decode_raw(text, tf.uint8), tf.zeros((count,), tf.uint8)], 0)
    return tf.cast(octets[:count], tf.int32)


def _size(text: Any) -> Any:
    """A little-endian number of four bytes, int64; missing bytes are zeros."""
    import tensorflow as tf

    weights = tf.constant([256**i for i in range(4)], tf.int64)
    return tf.tensordot(tf.cast(_octets(text, 4), tf.int64), weights, 1)


def _four_bytes(number: Any) -> Any:
    """An int32 as a string of four bytes, the lowest first."""
    import tensorflow as tf

    letters = tf.constant([bytes([i]) for i in range(256)])
    octets = tf.bitwise.bitwise_and(tf.bitwise.right_shift(number, [0, 8, 16, 24]), 255)
    return tf.strings.reduce_join(tf.gather(letters, octets))
