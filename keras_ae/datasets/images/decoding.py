"""Decoding of images inside a TensorFlow graph, where a bad image does not fail the others."""

from typing import Any

import numpy as np

from keras_ae import contract as c

UNKNOWN_FORMAT = "not a PNG, JPEG, BMP, GIF or WebP image"
EMPTY = "empty"
NO_PIXELS = "the header declares no pixels"
TOO_LARGE = f"more than {c.MAX_PIXELS:,} pixels"
ANIMATED = "an animated WebP; send one frame as PNG, JPEG or WebP"
CORRUPT = "cannot be decoded: truncated or corrupt"

HEADER_BYTES = 32
JPEG = b"\xff\xd8\xff"
BMP, GIF = 2, 3
GIF_EXTENSION, GIF_IMAGE, GIF_END = 0x21, 0x2C, b"\x3b"
# A run is a series of data blocks of the same size; one step of the loop skips one run.
MAX_GIF_STEPS, MAX_GIF_RUN_BLOCKS = 16384, 256


def decode_each(encoded: Any, channels: int) -> tuple[Any, Any, Any]:
    """Decodes each valid image of a batch; checks the size in the header before decoding.

    This function must be traced by `tf.function` with autograph.

    Args:
        encoded: string tensor [N]: PNG, JPEG, BMP, WebP or GIF (first frame).
        channels: 1 or 3.

    Returns:
        A TensorArray of N uint8 images [H, W, channels], 0 x 0 for a bad image; their heights and
        widths, int32 [N, 2]; the statuses, string [N], empty for a good image.
    """
    import tensorflow as tf

    signature = (tf.int32, tf.string, tf.int32)
    # The function has no Python loops or branches on tensors that autograph would need to convert.
    check_header = tf.autograph.experimental.do_not_convert(_check_header)
    formats, faults, ends = tf.map_fn(check_header, encoded, fn_output_signature=signature)
    count = tf.shape(encoded)[0]
    raw = tf.TensorArray(
        tf.uint8, count, element_shape=(None, None, None), infer_shape=False, clear_after_read=False
    )
    for i in tf.range(count):
        raw = raw.write(i, tf.zeros((0, 0, channels), tf.uint8))
    status = tf.where(tf.equal(faults, ""), CORRUPT, faults)
    # An image with a fault is replaced by an empty string, which fails and is skipped below.
    allowed = tf.where(tf.equal(faults, ""), encoded, "")
    total = tf.constant(0, tf.int64)
    for index, image in _decodable(allowed, formats, ends, channels):
        total += tf.reduce_prod(tf.shape(image, out_type=tf.int64)[:2])
        fits = total <= c.MAX_REQUEST_PIXELS
        # A few encoded megabytes may decode to gigabytes, so keep no pixels beyond the limit.
        raw = raw.write(tf.cast(index, tf.int32), image[: tf.where(fits, tf.shape(image)[0], 0)])
        fault = tf.where(tf.size(image) > 0, tf.where(fits, "", c.TOO_MANY_PIXELS), TOO_LARGE)
        status = tf.tensor_scatter_nd_update(status, index[None, None], fault[None])
        if not fits:
            # Do not decode the rest, which could take arbitrarily long.
            skipped = tf.equal(faults, "") & (tf.range(count) > tf.cast(index, tf.int32))
            status = tf.where(skipped, c.TOO_MANY_PIXELS, status)
            break

    pixels = tf.TensorArray(
        tf.uint8,
        count,
        element_shape=(None, None, channels),
        infer_shape=False,
        clear_after_read=False,
    )
    sizes = tf.zeros((count, 2), tf.int32)
    for i in tf.range(count):
        image = _to_channels(raw.read(i), formats[i], encoded[i], channels)
        pixels = pixels.write(i, image)
        sizes = tf.tensor_scatter_nd_update(sizes, [[i]], tf.shape(image)[None, :2])
    return pixels, sizes, status


def _decodable(encoded: Any, formats: Any, ends: Any, channels: int) -> Any:
    """An iterator over the index and the pixels, as decoded, of each good image.

    Only `tf.data` can continue after an error, by `ignore_errors`. TensorFlow instantiates the
    functions of a dataset at every request. That takes 14 ms because they contain only what must be
    here and default optimizations are off; it took 190 ms otherwise. The body of a loop over the
    iterator belongs to the caller's graph and does not count.
    """
    import tensorflow as tf

    def pixels(index: Any, data: Any, format: Any, end: Any) -> tuple[Any, Any]:
        decoders = [
            lambda: tf.io.decode_png(data, channels=channels),
            lambda: _decode_jpeg_within_limit(data),
            lambda: tf.io.decode_bmp(data),
            lambda: tf.io.decode_gif(tf.strings.substr(data, 0, end) + GIF_END)[0],
            lambda: tf.io.decode_webp(data)[0],
        ]
        return index, tf.ensure_shape(tf.switch_case(format, decoders), (None, None, None))

    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    indices = tf.range(tf.shape(encoded, out_type=tf.int64)[0])
    images = tf.data.Dataset.from_tensor_slices((indices, encoded, formats, ends))
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
        tf.equal(tf.strings.substr(data, 0, 3), JPEG),
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

    if data.startswith(JPEG):
        pixels = _decode_jpeg(data, channels)
    else:
        pixels = tf.io.decode_png(data, channels=channels)
    return np.asarray(pixels)


def _check_header(data: Any) -> tuple[Any, Any, Any]:
    """Format 0..4 or -1, status (empty if decoding may be tried), and end of the first frame."""
    import tensorflow as tf

    head = tf.strings.substr(data, 0, HEADER_BYTES)
    padding = tf.zeros((HEADER_BYTES,), tf.uint8)
    head = tf.cast(tf.concat([tf.io.decode_raw(head, tf.uint8), padding], 0), tf.int32)
    format, height, width = _header(head)
    # TensorFlow decodes all frames of a GIF, and each may be larger than the logical screen.
    frame_height, frame_width, end = tf.cond(
        tf.equal(format, GIF),
        lambda: _first_frame(data, head),
        lambda: (height, width, tf.strings.length(data)),
    )
    sizes = tf.stack([[height, width], [frame_height, frame_width]])
    pixels = tf.reduce_max(tf.reduce_prod(tf.cast(sizes, tf.int64), axis=1))
    fault = tf.case(
        [
            (tf.equal(tf.strings.length(data), 0), lambda: tf.constant(EMPTY)),
            (format < 0, lambda: tf.constant(UNKNOWN_FORMAT)),
            (end < 0, lambda: tf.constant(CORRUPT)),
            (tf.reduce_any(sizes < 1), lambda: tf.constant(NO_PIXELS)),
            (pixels > c.MAX_PIXELS, lambda: tf.constant(TOO_LARGE)),
            # TensorFlow 2.21 was seen to corrupt its heap on an animated WebP.
            (_is_animated_webp(head), lambda: tf.constant(ANIMATED)),
        ],
        default=lambda: tf.constant(""),
    )
    return format, fault, end


def _first_frame(data: Any, head: Any) -> tuple[Any, Any, Any]:
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


def _to_channels(image: Any, format: Any, data: Any, channels: int) -> Any:
    """Converts the pixels of any decoder to grey or RGB."""
    import tensorflow as tf

    def rgb() -> Any:
        colours = tf.cond(
            tf.equal(format, BMP), lambda: _bmp_colours(image, data), lambda: image[..., :3]
        )
        return tf.ensure_shape(colours, (None, None, 3))

    def converted() -> Any:
        if channels == 3:
            return rgb()
        return tf.cast(tf.round(tf.image.rgb_to_grayscale(tf.cast(rgb(), tf.float32))), tf.uint8)

    ready = tf.equal(tf.shape(image)[-1], channels) & tf.not_equal(format, BMP)
    image = tf.cond(ready, lambda: image, converted)
    return tf.ensure_shape(image, (None, None, channels))


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

    # The default is faster, but differs from other decoders by several grey levels.
    return tf.io.decode_jpeg(data, channels=channels, dct_method="INTEGER_ACCURATE")


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


def _starts_with(head: Any, magic: bytes, offset: int = 0) -> Any:
    import tensorflow as tf

    return tf.reduce_all(tf.equal(head[offset : offset + len(magic)], list(magic)))


def _is_animated_webp(head: Any) -> Any:
    import tensorflow as tf

    extended = _starts_with(head, b"RIFF") & _starts_with(head, b"WEBPVP8X", 8)
    return extended & (tf.bitwise.bitwise_and(head[20], 0x02) > 0)


def _header(head: Any) -> tuple[Any, Any, Any]:
    """Format 0..4 (PNG, JPEG, BMP, GIF, WebP) or -1, height and width, int32.

    A JPEG counts as 1 x 1 here, because its first bytes do not contain its size.
    """
    import tensorflow as tf

    def number(offset: int, count: int, *, little: bool) -> Any:
        powers = [256**i for i in range(count)]
        return tf.reduce_sum(head[offset : offset + count] * (powers if little else powers[::-1]))

    def fourteen_bits(value: Any, shift: int) -> Any:
        return tf.bitwise.bitwise_and(tf.bitwise.right_shift(value, shift), 0x3FFF)

    def size(offset: int, count: int, *, little: bool) -> Any:
        """Height and width of a format that stores the width first."""
        width = number(offset, count, little=little)
        return lambda: (number(offset + count, count, little=little), width)

    def bmp() -> tuple[Any, Any]:
        return tf.abs(number(22, 4, little=True)), number(18, 4, little=True)

    def webp() -> tuple[Any, Any]:
        # Extended (24-bit sizes), lossless (two 14-bit sizes in a word) or lossy.
        extended = (number(27, 3, little=True) + 1, number(24, 3, little=True) + 1)
        word = number(21, 4, little=True)
        lossless = (fourteen_bits(word, 14) + 1, fourteen_bits(word, 0) + 1)
        word = number(26, 4, little=True)
        lossy = (fourteen_bits(word, 16), fourteen_bits(word, 0))
        sides: tuple[Any, Any] = tf.case(
            [
                (_starts_with(head, b"VP8X", 12), lambda: extended),
                (_starts_with(head, b"VP8L", 12), lambda: lossless),
            ],
            default=lambda: lossy,
        )
        return sides

    formats = [
        _starts_with(head, b"\x89PNG\r\n\x1a\n"),
        _starts_with(head, JPEG),
        _starts_with(head, b"BM"),
        _starts_with(head, b"GIF8"),
        _starts_with(head, b"RIFF") & _starts_with(head, b"WEBP", 8),
    ]
    format = tf.case(
        [(is_format, lambda i=i: tf.constant(i)) for i, is_format in enumerate(formats)],
        default=lambda: tf.constant(-1),
    )
    one = tf.constant(1)
    sizes = [
        size(16, 4, little=False),
        lambda: (one, one),
        bmp,
        size(6, 2, little=True),
        webp,
        lambda: (one, one),
    ]
    height, width = tf.switch_case(tf.where(format < 0, len(formats), format), sizes)
    return format, height, width
