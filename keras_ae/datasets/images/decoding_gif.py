"""Where the first frame of a GIF ends, found inside a TensorFlow graph."""

from typing import Any

GIF_EXTENSION, GIF_IMAGE = 0x21, 0x2C
GIF_END = b"\x3b"
# A run is a series of data blocks of the same size; one step of the loop skips one run.
MAX_GIF_STEPS, MAX_GIF_RUN_BLOCKS = 16384, 256


def first_gif_frame(data: Any, head: Any) -> tuple[Any, Any, Any]:
    """Height and width of the first frame of a GIF and the offset of its end, -1 if there is none.

    See the GIF89a specification: extensions, the image descriptor (0x2C), then data blocks, each
    with its length in its first byte, up to a block of length 0.
    """
    import tensorflow as tf

    # The appended zero ends the data blocks of a truncated file.
    octets = tf.concat([tf.io.decode_raw(data, tf.uint8), tf.zeros((1,), tf.uint8)], 0)
    last = tf.size(octets) - 1

    def octet(offset: Any) -> Any:
        return tf.cast(octets[tf.minimum(offset, last)], tf.int32)

    def word(offset: Any) -> Any:
        return octet(offset) + 256 * octet(offset + 1)

    def colour_table_bytes(flags: Any) -> Any:
        table = 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7))
        return tf.where(flags >= 128, table, 0)

    def skip_blocks(offset: Any, steps: Any) -> tuple[Any, Any]:
        offset, steps = tf.while_loop(
            lambda offset, steps: (octet(offset) > 0) & (steps > 0),
            lambda offset, steps: (_skip_run(octets, offset), steps - 1),
            (offset, steps),
        )
        return offset + 1, steps - 1

    # Limit the steps: a hostile file of millions of tiny blocks would occupy a thread for long.
    steps = tf.minimum(256 + last // 32, MAX_GIF_STEPS)
    start, steps = tf.while_loop(
        lambda offset, steps: tf.equal(octet(offset), GIF_EXTENSION) & (steps > 0),
        lambda offset, steps: skip_blocks(offset + 2, steps),
        (13 + colour_table_bytes(head[10]), steps),
    )
    end, steps = skip_blocks(start + 11 + colour_table_bytes(octet(start + 9)), steps)
    is_frame = tf.equal(octet(start), GIF_IMAGE) & (steps >= 0)
    return word(start + 7), word(start + 5), tf.where(is_frame, tf.minimum(end, last), -1)


def _skip_run(octets: Any, start: Any) -> Any:
    """The end of a run of at most `MAX_GIF_RUN_BLOCKS` GIF data blocks that have the same size."""
    import tensorflow as tf

    start = tf.minimum(start, tf.size(octets) - 1)
    step = tf.cast(octets[start], tf.int32) + 1
    same = tf.equal(octets[start : start + MAX_GIF_RUN_BLOCKS * step : step], octets[start])
    same = tf.concat([tf.cast(same, tf.int32), [0]], 0)
    blocks = tf.argmin(same, output_type=tf.int32)
    return tf.minimum(start + blocks * step, tf.size(octets) - 1)
