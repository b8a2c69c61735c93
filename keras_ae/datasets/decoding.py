"""Encoded images to pixels inside a TensorFlow graph, one bad image never failing the others."""

from typing import Any

from keras_ae import contract as c

UNKNOWN = "not a PNG, JPEG, BMP, GIF or WebP image"
EMPTY = "empty"
NO_PIXELS = "the header gives no pixels"
TOO_LARGE = f"more than {c.MAX_PIXELS:,} pixels"
ANIMATED = "an animated WebP; send one frame as PNG, JPEG or WebP"
CORRUPT = "cannot be decoded: truncated or corrupt"

HEADER_BYTES = 32


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

    count = tf.shape(encoded)[0]
    images = tf.data.Dataset.from_tensor_slices(encoded).enumerate()
    images = images.map(
        lambda index, data: (index, *decode(data, channels)), num_parallel_calls=2
    ).ignore_errors()

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
    status = tf.fill((count,), CORRUPT)
    for index, image, fault in images:
        pixels = pixels.write(tf.cast(index, tf.int32), image)
        at = index[None, None]
        sizes = tf.tensor_scatter_nd_update(sizes, at, tf.shape(image)[None, :2])
        status = tf.tensor_scatter_nd_update(status, at, fault[None])
    return pixels, sizes, status


def decode_stored(data: Any, channels: int) -> Any:
    """Decodes an image that was checked and normalized before: a PNG or JPEG of `channels`.

    Args:
        data: string scalar tensor.

    Returns:
        uint8 [H, W, channels].
    """
    import tensorflow as tf

    return tf.cond(
        tf.equal(tf.strings.substr(data, 0, 3), b"\xff\xd8\xff"),
        lambda: _jpeg(data, channels),
        lambda: tf.io.decode_png(data, channels=channels),
    )


def decode(data: Any, channels: int) -> tuple[Any, Any]:
    """Decodes one image.

    Args:
        data: string scalar tensor.
        channels: 1 or 3.

    Returns:
        uint8 [H, W, channels], and its fault: empty for a good image, else the image is 0 x 0.
        A corrupt body fails the op.
    """
    import tensorflow as tf

    kind, height, width = _header(data)
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    fault = tf.case(
        [
            (tf.equal(tf.strings.length(data), 0), lambda: tf.constant(EMPTY)),
            (kind < 0, lambda: tf.constant(UNKNOWN)),
            ((height < 1) | (width < 1), lambda: tf.constant(NO_PIXELS)),
            (pixels > c.MAX_PIXELS, lambda: tf.constant(TOO_LARGE)),
            # TensorFlow 2.21 was seen to corrupt its heap on one.
            (_animated_webp(data), lambda: tf.constant(ANIMATED)),
        ],
        default=lambda: tf.constant(""),
    )
    image = tf.cond(
        tf.equal(fault, ""),
        lambda: _pixels(data, kind, channels),
        lambda: tf.zeros((0, 0, channels), tf.uint8),
    )
    image.set_shape((None, None, channels))
    return image, fault


def _pixels(data: Any, kind: Any, channels: int) -> Any:
    import tensorflow as tf

    def converted(image: Any) -> Any:
        if channels == 3:
            return image
        return tf.cast(tf.round(tf.image.rgb_to_grayscale(tf.cast(image, tf.float32))), tf.uint8)

    return tf.switch_case(
        kind,
        [
            lambda: tf.io.decode_png(data, channels=channels),
            lambda: converted(_jpeg(data, 3)),
            lambda: converted(_bmp(data)),
            lambda: converted(_first_frame(data)),
            lambda: converted(
                tf.ensure_shape(tf.io.decode_webp(data)[0, ..., :3], (None, None, 3))
            ),
        ],
    )


def _jpeg(data: Any, channels: int) -> Any:
    import tensorflow as tf

    # The default is faster and off by several grey levels from other decoders.
    return tf.io.decode_jpeg(data, channels=channels, dct_method="INTEGER_ACCURATE")


def _bmp(data: Any) -> Any:
    import tensorflow as tf

    image = tf.io.decode_bmp(data)

    def coloured() -> Any:
        # TensorFlow gives the indices of a palette of 4 bytes a colour, blue first.
        begin = 14 + _little_endian(tf.io.decode_raw(tf.strings.substr(data, 14, 4), tf.uint8))
        table = tf.io.decode_raw(tf.strings.substr(data, begin, 4 * 256), tf.uint8)
        table = tf.concat([table, tf.zeros((4 * 256,), tf.uint8)], 0)[: 4 * 256]
        table = tf.reshape(table, (256, 4))[:, 2::-1]
        return tf.gather(table, tf.cast(image[..., 0], tf.int32))

    return tf.cond(tf.equal(tf.shape(image)[-1], 1), coloured, lambda: image[..., :3])


def _little_endian(octets: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_sum(tf.cast(octets, tf.int32) * [1, 256, 65536, 16777216])


def _first_frame(data: Any) -> Any:
    import tensorflow as tf

    image = tf.io.decode_image(data, channels=3, expand_animations=False)
    return tf.ensure_shape(image, (None, None, 3))


def _animated_webp(data: Any) -> Any:
    import tensorflow as tf

    extended = tf.equal(tf.strings.substr(data, 8, 8), b"WEBPVP8X")
    flags = tf.io.decode_raw(tf.strings.substr(data, 20, 1), tf.uint8)
    return extended & tf.reduce_any(tf.bitwise.bitwise_and(flags, 0x02) > 0)


def _header(data: Any) -> tuple[Any, Any, Any]:
    """Format 0..4 (PNG, JPEG, BMP, GIF, WebP) or -1, height and width, int32."""
    import tensorflow as tf

    head = tf.strings.substr(data, 0, HEADER_BYTES)
    padding = tf.zeros((HEADER_BYTES,), tf.uint8)
    head = tf.cast(tf.concat([tf.io.decode_raw(head, tf.uint8), padding], 0), tf.int32)

    def begins(magic: bytes, at: int = 0) -> Any:
        return tf.reduce_all(tf.equal(head[at : at + len(magic)], list(magic)))

    def number(at: int, count: int, *, little: bool) -> Any:
        powers = [256**i for i in range(count)]
        return tf.reduce_sum(head[at : at + count] * (powers if little else powers[::-1]))

    def fourteen_bits(value: Any, shift: int) -> Any:
        return tf.bitwise.bitwise_and(tf.bitwise.right_shift(value, shift), 0x3FFF)

    def webp() -> tuple[Any, Any]:
        # Extended (24-bit sizes), lossless (two 14-bit sizes in a word) or lossy.
        extended = (number(27, 3, little=True) + 1, number(24, 3, little=True) + 1)
        word = number(21, 4, little=True)
        lossless = (fourteen_bits(word, 14) + 1, fourteen_bits(word, 0) + 1)
        word = number(26, 4, little=True)
        lossy = (fourteen_bits(word, 16), fourteen_bits(word, 0))
        return tf.case(
            [(begins(b"VP8X", 12), lambda: extended), (begins(b"VP8L", 12), lambda: lossless)],
            default=lambda: lossy,
        )

    def jpeg() -> tuple[Any, Any]:
        shape = tf.image.extract_jpeg_shape(data)
        return shape[0], shape[1]

    def size(at: int, count: int, *, little: bool) -> Any:
        """Height and width where the width stands first."""
        width = number(at, count, little=little)
        return lambda: (number(at + count, count, little=little), width)

    def bmp() -> tuple[Any, Any]:
        return tf.abs(number(22, 4, little=True)), number(18, 4, little=True)

    kinds = [
        begins(b"\x89PNG\r\n\x1a\n"),
        begins(b"\xff\xd8\xff"),
        begins(b"BM"),
        begins(b"GIF8"),
        begins(b"RIFF") & begins(b"WEBP", 8),
    ]
    kind = tf.case(
        [(is_kind, lambda i=i: tf.constant(i)) for i, is_kind in enumerate(kinds)],
        default=lambda: tf.constant(-1),
    )
    sizes = [size(16, 4, little=False), jpeg, bmp, size(6, 2, little=True), webp]
    height, width = tf.switch_case(
        tf.where(kind < 0, len(kinds), kind),
        [*sizes, lambda: (tf.constant(0), tf.constant(0))],
    )
    return kind, height, width
