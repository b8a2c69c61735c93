"""Encoded images to pixels inside a TensorFlow graph, one bad image never failing the others."""

from typing import Any

import numpy as np

from keras_ae import contract as c

UNKNOWN = "not a PNG, JPEG, BMP, GIF or WebP image"
EMPTY = "empty"
NO_PIXELS = "the header gives no pixels"
TOO_LARGE = f"more than {c.MAX_PIXELS:,} pixels"
TOO_MANY = c.TOO_MANY_PIXELS
ANIMATED = "an animated WebP; send one frame as PNG, JPEG or WebP"
CORRUPT = "cannot be decoded: truncated or corrupt"

HEADER_BYTES = 32
JPEG = b"\xff\xd8\xff"
BMP, GIF = 2, 3
GIF_EXTENSION, GIF_IMAGE, GIF_END = 0x21, 0x2C, b"\x3b"
# A run is blocks of one size, a step passes over one.
GIF_STEPS, GIF_RUN = 16384, 256


def decode_each(encoded: Any, channels: int) -> tuple[Any, Any, Any]:
    """Decodes the images that can be decoded; their size is checked from the header first.

    To be traced by `tf.function` with autograph.

    Args:
        encoded: string tensor [N]: PNG, JPEG, BMP, WebP or GIF (first frame).
        channels: 1 or 3.

    Returns:
        A TensorArray of N uint8 images [H, W, channels], 0 x 0 for a bad one; their sizes,
        int32 [N, 2]; status, string [N], empty for a good image.
    """
    import tensorflow as tf

    signature = (tf.int32, tf.string, tf.int32)
    # What is called has no loops and no branches of Python's on tensors to convert.
    inspect = tf.autograph.experimental.do_not_convert(_inspect)
    kinds, faults, ends = tf.map_fn(inspect, encoded, fn_output_signature=signature)
    count = tf.shape(encoded)[0]
    raw = tf.TensorArray(
        tf.uint8, count, element_shape=(None, None, None), infer_shape=False, clear_after_read=False
    )
    for i in tf.range(count):
        raw = raw.write(i, tf.zeros((0, 0, channels), tf.uint8))
    status = tf.where(tf.equal(faults, ""), CORRUPT, faults)
    # No bytes cannot be decoded: a faulty image is passed over like a corrupt one.
    allowed = tf.where(tf.equal(faults, ""), encoded, "")
    total = tf.constant(0, tf.int64)
    for index, image in _decodable(allowed, kinds, ends, channels):
        total += tf.reduce_prod(tf.shape(image, out_type=tf.int64)[:2])
        fits = total <= c.MAX_REQUEST_PIXELS
        # A few megabytes may hold gigabytes of pixels.
        raw = raw.write(tf.cast(index, tf.int32), image[: tf.where(fits, tf.shape(image)[0], 0)])
        fault = tf.where(tf.size(image) > 0, tf.where(fits, "", TOO_MANY), TOO_LARGE)
        status = tf.tensor_scatter_nd_update(status, index[None, None], fault[None])
        if not fits:
            # To decode the rest in vain would take as long as a request likes.
            passed_over = tf.equal(faults, "") & (tf.range(count) > tf.cast(index, tf.int32))
            status = tf.where(passed_over, TOO_MANY, status)
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
        image = _in_channels(raw.read(i), kinds[i], encoded[i], channels)
        pixels = pixels.write(i, image)
        sizes = tf.tensor_scatter_nd_update(sizes, [[i]], tf.shape(image)[None, :2])
    return pixels, sizes, status


def _decodable(encoded: Any, kinds: Any, ends: Any, channels: int) -> Any:
    """An iterator of the index and the pixels, as its decoder gives them, of each good image.

    Only a dataset goes on after an error. Its functions are built anew at each request, which took
    190 ms with TensorFlow's optimizations and all that can be done elsewhere, and takes 14 so. The
    body of a loop over an iterator is none of them.
    """
    import tensorflow as tf

    def pixels(index: Any, data: Any, kind: Any, end: Any) -> tuple[Any, Any]:
        decoders = [
            lambda: tf.io.decode_png(data, channels=channels),
            lambda: _small_jpeg(data),
            lambda: tf.io.decode_bmp(data),
            lambda: tf.io.decode_gif(tf.strings.substr(data, 0, end) + GIF_END)[0],
            lambda: tf.io.decode_webp(data)[0],
        ]
        return index, tf.ensure_shape(tf.switch_case(kind, decoders), (None, None, None))

    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    indices = tf.range(tf.shape(encoded, out_type=tf.int64)[0])
    images = tf.data.Dataset.from_tensor_slices((indices, encoded, kinds, ends))
    pixels = tf.autograph.experimental.do_not_convert(pixels)
    return iter(images.map(pixels, num_parallel_calls=2).ignore_errors().with_options(options))


def decode_stored(data: Any, channels: int) -> Any:
    """Decodes an image that was checked and normalized before: a PNG or JPEG of `channels`.

    Args:
        data: string scalar tensor.

    Returns:
        uint8 [H, W, channels].
    """
    import tensorflow as tf

    return tf.cond(
        tf.equal(tf.strings.substr(data, 0, 3), JPEG),
        lambda: _jpeg(data, channels),
        lambda: tf.io.decode_png(data, channels=channels),
    )


def decode_bytes(data: bytes, channels: int) -> np.ndarray:
    """What `decode_stored` gives, at once.

    Args:
        data: a PNG or JPEG of `channels`.
        channels: 1 or 3.

    Returns:
        uint8 [H, W, channels].

    Raises:
        tf.errors.InvalidArgumentError: if it cannot be decoded.
    """
    import tensorflow as tf

    if data.startswith(JPEG):
        pixels = _jpeg(data, channels)
    else:
        pixels = tf.io.decode_png(data, channels=channels)
    return np.asarray(pixels)


def _inspect(data: Any) -> tuple[Any, Any, Any]:
    """Format of an image, 0..4 or -1, what is against it, empty if nothing, and where to cut it."""
    import tensorflow as tf

    head = tf.strings.substr(data, 0, HEADER_BYTES)
    padding = tf.zeros((HEADER_BYTES,), tf.uint8)
    head = tf.cast(tf.concat([tf.io.decode_raw(head, tf.uint8), padding], 0), tf.int32)
    kind, height, width = _header(head)
    # TensorFlow holds every frame of a GIF, and each may be larger than the screen.
    frame_height, frame_width, end = tf.cond(
        tf.equal(kind, GIF),
        lambda: _first_frame(data, head),
        lambda: (height, width, tf.strings.length(data)),
    )
    sizes = tf.stack([[height, width], [frame_height, frame_width]])
    pixels = tf.reduce_max(tf.reduce_prod(tf.cast(sizes, tf.int64), axis=1))
    fault = tf.case(
        [
            (tf.equal(tf.strings.length(data), 0), lambda: tf.constant(EMPTY)),
            (kind < 0, lambda: tf.constant(UNKNOWN)),
            (end < 0, lambda: tf.constant(CORRUPT)),
            (tf.reduce_any(sizes < 1), lambda: tf.constant(NO_PIXELS)),
            (pixels > c.MAX_PIXELS, lambda: tf.constant(TOO_LARGE)),
            # TensorFlow 2.21 was seen to corrupt its heap on one.
            (_animated_webp(head), lambda: tf.constant(ANIMATED)),
        ],
        default=lambda: tf.constant(""),
    )
    return kind, fault, end


def _first_frame(data: Any, head: Any) -> tuple[Any, Any, Any]:
    """Height and width of the first frame of a GIF and where it ends: -1 if there is none."""
    import tensorflow as tf

    # The zero ends the blocks of a truncated file.
    octets = tf.concat([tf.io.decode_raw(data, tf.uint8), tf.zeros((1,), tf.uint8)], 0)
    last = tf.size(octets) - 1

    def octet(at: Any) -> Any:
        return tf.cast(octets[tf.minimum(at, last)], tf.int32)

    def word(at: Any) -> Any:
        return octet(at) + 256 * octet(at + 1)

    def colours(flags: Any) -> Any:
        """Bytes of the colour table that flags announce."""
        table = 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7))
        return tf.where(flags >= 128, table, 0)

    def after_blocks(at: Any, steps: Any) -> tuple[Any, Any]:
        at, steps = tf.while_loop(
            lambda at, steps: (octet(at) > 0) & (steps > 0),
            lambda at, steps: (_after_run(octets, at), steps - 1),
            (at, steps),
        )
        return at + 1, steps - 1

    # Blocks of mixed sizes, shorter than any writer's, would hold a thread for long.
    steps = tf.minimum(256 + last // 32, GIF_STEPS)
    at, steps = tf.while_loop(
        lambda at, steps: tf.equal(octet(at), GIF_EXTENSION) & (steps > 0),
        lambda at, steps: after_blocks(at + 2, steps),
        (13 + colours(head[10]), steps),
    )
    end, steps = after_blocks(at + 11 + colours(octet(at + 9)), steps)
    found = tf.equal(octet(at), GIF_IMAGE) & (steps >= 0)
    return word(at + 7), word(at + 5), tf.where(found, tf.minimum(end, last), -1)


def _after_run(octets: Any, at: Any) -> Any:
    """Where the blocks of a GIF end that have the size of the one at `at`, at most `GIF_RUN`."""
    import tensorflow as tf

    at = tf.minimum(at, tf.size(octets) - 1)
    step = tf.cast(octets[at], tf.int32) + 1
    same = tf.equal(octets[at : at + GIF_RUN * step : step], octets[at])
    same = tf.concat([tf.cast(same, tf.int32), [0]], 0)
    run = tf.argmin(same, output_type=tf.int32)
    return tf.minimum(at + run * step, tf.size(octets) - 1)


def _in_channels(image: Any, kind: Any, data: Any, channels: int) -> Any:
    """What a decoder gave as grey or RGB pixels."""
    import tensorflow as tf

    def rgb() -> Any:
        colours = tf.cond(tf.equal(kind, BMP), lambda: _bmp(image, data), lambda: image[..., :3])
        return tf.ensure_shape(colours, (None, None, 3))

    def converted() -> Any:
        if channels == 3:
            return rgb()
        return tf.cast(tf.round(tf.image.rgb_to_grayscale(tf.cast(rgb(), tf.float32))), tf.uint8)

    ready = tf.equal(tf.shape(image)[-1], channels) & tf.not_equal(kind, BMP)
    image = tf.cond(ready, lambda: image, converted)
    return tf.ensure_shape(image, (None, None, channels))


def _small_jpeg(data: Any) -> Any:
    """A JPEG in colour, 0 x 0 if it is too large: its size stands anywhere in the file."""
    import tensorflow as tf

    size = tf.cast(tf.image.extract_jpeg_shape(data)[:2], tf.int64)
    return tf.cond(
        tf.reduce_prod(size) <= c.MAX_PIXELS,
        lambda: _jpeg(data, 3),
        lambda: tf.zeros((0, 0, 3), tf.uint8),
    )


def _jpeg(data: Any, channels: int) -> Any:
    import tensorflow as tf

    # The default is faster and off by several grey levels from other decoders.
    return tf.io.decode_jpeg(data, channels=channels, dct_method="INTEGER_ACCURATE")


def _bmp(image: Any, data: Any) -> Any:
    import tensorflow as tf

    def coloured() -> Any:
        # TensorFlow gives the indices of a palette of 4 bytes a colour, blue first.
        begin = 14 + _little_endian(tf.io.decode_raw(tf.strings.substr(data, 14, 4), tf.uint8))
        begin = tf.clip_by_value(begin, 0, tf.strings.length(data))
        table = tf.io.decode_raw(tf.strings.substr(data, begin, 4 * 256), tf.uint8)
        table = tf.concat([table, tf.zeros((4 * 256,), tf.uint8)], 0)[: 4 * 256]
        table = tf.reshape(table, (256, 4))[:, 2::-1]
        return tf.gather(table, tf.cast(image[..., 0], tf.int32))

    return tf.cond(tf.equal(tf.shape(image)[-1], 1), coloured, lambda: image[..., :3])


def _little_endian(octets: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_sum(tf.cast(octets, tf.int32) * [1, 256, 65536, 16777216])


def _begins(head: Any, magic: bytes, at: int = 0) -> Any:
    import tensorflow as tf

    return tf.reduce_all(tf.equal(head[at : at + len(magic)], list(magic)))


def _animated_webp(head: Any) -> Any:
    import tensorflow as tf

    extended = _begins(head, b"RIFF") & _begins(head, b"WEBPVP8X", 8)
    return extended & (tf.bitwise.bitwise_and(head[20], 0x02) > 0)


def _header(head: Any) -> tuple[Any, Any, Any]:
    """Format 0..4 (PNG, JPEG, BMP, GIF, WebP) or -1, height and width, int32.

    The size of a JPEG does not stand in its first bytes: it counts as 1 x 1 here.
    """
    import tensorflow as tf

    def number(at: int, count: int, *, little: bool) -> Any:
        powers = [256**i for i in range(count)]
        return tf.reduce_sum(head[at : at + count] * (powers if little else powers[::-1]))

    def fourteen_bits(value: Any, shift: int) -> Any:
        return tf.bitwise.bitwise_and(tf.bitwise.right_shift(value, shift), 0x3FFF)

    def size(at: int, count: int, *, little: bool) -> Any:
        """Height and width where the width stands first."""
        width = number(at, count, little=little)
        return lambda: (number(at + count, count, little=little), width)

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
                (_begins(head, b"VP8X", 12), lambda: extended),
                (_begins(head, b"VP8L", 12), lambda: lossless),
            ],
            default=lambda: lossy,
        )
        return sides

    kinds = [
        _begins(head, b"\x89PNG\r\n\x1a\n"),
        _begins(head, JPEG),
        _begins(head, b"BM"),
        _begins(head, b"GIF8"),
        _begins(head, b"RIFF") & _begins(head, b"WEBP", 8),
    ]
    kind = tf.case(
        [(is_kind, lambda i=i: tf.constant(i)) for i, is_kind in enumerate(kinds)],
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
    height, width = tf.switch_case(tf.where(kind < 0, len(kinds), kind), sizes)
    return kind, height, width
