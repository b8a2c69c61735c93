"""Format, size and kind of an encoded image, found inside a TensorFlow graph."""

from typing import Any, NamedTuple

import numpy as np

from keras_ae import contract as c
from keras_ae.datasets.images.decoding_gif import first_gif_frame
from keras_ae.datasets.images.decoding_webp import first_webp_frame, is_animated_webp

UNKNOWN_FORMAT = "not a PNG, JPEG, BMP, GIF or WebP image"
EMPTY = "empty"
NO_PIXELS = "the header declares no pixels"
TOO_LARGE = f"more than {c.MAX_PIXELS:,} pixels"
CORRUPT = "cannot be decoded: truncated or corrupt"

HEADER_BYTES = 32
JPEG_MAGIC = b"\xff\xd8\xff"
PNG, JPEG, BMP, GIF, WEBP = range(5)
PNG_GREY_16, PNG_16, PNG_ALPHA, PNG_COLOUR = range(5, 9)
"""Kinds of a PNG: 16 bits, grey; 16 bits, with alpha; 8 bits, with alpha; colours for grey."""
_GREY, _PALETTE = 0, 3
"""Colour types of PNG; those with bit 2 have alpha."""
_MAX_PNG_CHUNKS = 20_000
"""Number of chunks before the pixels that are searched for transparency; ingest takes as many."""


class Checked(NamedTuple):
    """What the header of an image says; scalar tensors unless said otherwise.

    Attributes:
        format: int32: PNG to PNG_COLOUR, or -1.
        fault: string; empty if decoding may be tried.
        end: int32, offset of the end of the first frame of a GIF.
        frame: string: the first frame of an animated WebP as a WebP; empty for all others.
        canvas: int32 [4]: top, left, height and width of what that frame is a part of.
    """

    format: Any
    fault: Any
    end: Any
    frame: Any
    canvas: Any


def check_header(data: Any, channels: int) -> Checked:
    """Checks the header of an encoded image, string scalar tensor, for a decoder of channels."""
    import tensorflow as tf

    head = first_bytes(data, HEADER_BYTES)
    format, height, width = _header(head)
    # TensorFlow decodes all frames of a GIF, and each may be larger than the logical screen.
    frame_height, frame_width, end = tf.cond(
        tf.equal(format, GIF),
        lambda: first_gif_frame(data, head),
        lambda: (height, width, tf.strings.length(data)),
    )
    frame, canvas, frame_is_good = tf.cond(
        is_animated_webp(head),
        lambda: _first_webp_frame(data, height, width),
        lambda: (tf.constant(""), tf.zeros((4,), tf.int32), tf.constant(True)),
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
            (~frame_is_good, lambda: tf.constant(CORRUPT)),
        ],
        default=lambda: tf.constant(""),
    )
    kind = tf.cond(tf.equal(format, PNG), lambda: _png_kind(data, head, channels), lambda: format)
    return Checked(kind, fault, end, frame, canvas)


def first_bytes(data: Any, count: int) -> Any:
    """The first bytes of a string scalar tensor, int32 [count], with zeros behind its end."""
    import tensorflow as tf

    head = tf.io.decode_raw(tf.strings.substr(data, 0, count), tf.uint8)
    return tf.cast(tf.concat([head, tf.zeros((count,), tf.uint8)], 0)[:count], tf.int32)


def _first_webp_frame(data: Any, height: Any, width: Any) -> tuple[Any, Any, Any]:
    """The first frame as a WebP, its place, and whether it is what the container says."""
    import tensorflow as tf

    frame, (top, left, frame_height, frame_width) = first_webp_frame(data)
    # The frame may declare another size than its container.
    format, own_height, own_width = _header(first_bytes(frame, HEADER_BYTES))
    is_good = (
        tf.equal(format, WEBP)
        & tf.equal(own_height, frame_height)
        & tf.equal(own_width, frame_width)
        & (top + frame_height <= height)
        & (left + frame_width <= width)
    )
    return frame, tf.stack([top, left, height, width]), is_good


def _png_kind(data: Any, head: Any, channels: int) -> Any:
    """Which decoder a PNG needs."""
    import tensorflow as tf

    colour_type = head[25]
    is_grey = tf.equal(colour_type, _GREY)
    may_have_table = is_grey | tf.equal(colour_type, 2) | tf.equal(colour_type, _PALETTE)
    has_alpha = tf.cond(may_have_table, lambda: _has_transparency(data), lambda: tf.constant(True))
    deep = tf.where(is_grey & ~has_alpha, PNG_GREY_16, PNG_16)
    plain = tf.where(is_grey, PNG, PNG_COLOUR) if channels == 1 else PNG
    return tf.where(tf.equal(head[24], 16), deep, tf.where(has_alpha, PNG_ALPHA, plain))


def _has_transparency(data: Any) -> Any:
    """Whether a PNG has a chunk tRNS before its pixels."""
    import tensorflow as tf

    last = tf.strings.length(data)

    def kind(offset: Any) -> Any:
        return tf.strings.substr(data, tf.minimum(offset + 4, last), 4)

    def is_other(offset: Any, steps: Any) -> Any:
        found = tf.equal(kind(offset), "tRNS") | tf.equal(kind(offset), "IDAT")
        return ~found & (offset < last) & (steps > 0)

    def skip(offset: Any, steps: Any) -> tuple[Any, Any]:
        octets = tf.io.decode_raw(tf.strings.substr(data, offset, 4), tf.uint8)
        octets = tf.concat([octets, tf.zeros((4,), tf.uint8)], 0)[:4]
        length = tf.reduce_sum(tf.cast(octets, tf.int64) * [2**24, 2**16, 2**8, 1])
        end = tf.minimum(tf.cast(offset, tf.int64) + 12 + length, tf.cast(last, tf.int64))
        return tf.cast(end, tf.int32), steps - 1

    offset, _ = tf.while_loop(is_other, skip, (tf.minimum(33, last), _MAX_PNG_CHUNKS))
    return tf.equal(kind(offset), "tRNS")


def _header(head: Any) -> tuple[Any, Any, Any]:
    """Format 0..4 (PNG, JPEG, BMP, GIF, WebP) or -1, height and width, int32.

    A JPEG counts as 1 x 1 here, because its first bytes do not contain its size. All forms are
    computed at once by constant tables: a graph of branches would take half a second to load.
    """
    import tensorflow as tf

    matches = tf.reduce_all(tf.equal(head, _MAGIC) | (_MAGIC < 0), axis=1)
    form = tf.argmax(tf.cast(matches, tf.int32), output_type=tf.int32)
    words = tf.bitwise.right_shift(tf.linalg.matvec(_PLACES, head), _SHIFTS)
    sides = tf.bitwise.bitwise_and(words, _MASKS) + _ADDED
    height, width = tf.unstack(tf.gather(tf.reshape(sides, (-1, 2)), form))
    format = tf.where(tf.reduce_any(matches), tf.minimum(form, WEBP), -1)
    # That of a BMP is negative if its first row is the uppermost.
    return format, tf.where(tf.equal(format, BMP), tf.abs(height), height), width


class _Form(NamedTuple):
    """A form of header: its magic bytes by offset, and where its height and width are.

    A side is bits `mask` of the number, shifted, of `octets` bytes at an offset, and `added`.
    """

    magic: dict[int, bytes]
    height: tuple[int, int]
    width: tuple[int, int]
    octets: int
    big_endian: bool = False
    mask: int = -1
    added: int = 0


_RIFF = {0: b"RIFF", 8: b"WEBP"}
_FORMS = (
    _Form({0: b"\x89PNG\r\n\x1a\n"}, (20, 0), (16, 0), 4, big_endian=True),
    _Form({0: JPEG_MAGIC}, (0, 0), (0, 0), 0, added=1),
    _Form({0: b"BM"}, (22, 0), (18, 0), 4),
    _Form({0: b"GIF8"}, (8, 0), (6, 0), 2),
    # WebP: extended, lossless (two 14-bit sides in a word), and lossy.
    _Form({**_RIFF, 12: b"VP8X"}, (27, 0), (24, 0), 3, added=1),
    _Form({**_RIFF, 12: b"VP8L"}, (21, 14), (21, 0), 4, mask=0x3FFF, added=1),
    _Form(_RIFF, (26, 16), (26, 0), 4, mask=0x3FFF),
)
"""In the order of PNG to WEBP; the first that matches counts."""


def _magic_bytes(form: _Form) -> np.ndarray:
    """The first bytes of a form, int32 [HEADER_BYTES], -1 where any will do."""
    first = np.full(HEADER_BYTES, -1, np.int32)
    for offset, magic in form.magic.items():
        first[offset : offset + len(magic)] = list(magic)
    return first


def _places(form: _Form, offset: int) -> np.ndarray:
    """The weights of the first bytes in a number, int32 [HEADER_BYTES]."""
    weights = np.zeros(HEADER_BYTES, np.int32)
    powers = [256**i for i in range(form.octets)]
    weights[offset : offset + form.octets] = powers[::-1] if form.big_endian else powers
    return weights


_SIDES = [(form, *side) for form in _FORMS for side in (form.height, form.width)]
_MAGIC = np.stack([_magic_bytes(form) for form in _FORMS])
_PLACES = np.stack([_places(form, offset) for form, offset, _ in _SIDES])
_SHIFTS = np.array([shift for *_, shift in _SIDES], np.int32)
_MASKS, _ADDED = np.array([(form.mask, form.added) for form, *_ in _SIDES], np.int32).T
