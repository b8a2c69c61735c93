import struct
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ae import contract as c
from keras_ae.datasets.images.decoding import decode_each
from keras_ae.datasets.images.decoding_header import (
    CORRUPT,
    NO_PIXELS,
    TOO_LARGE,
    UNKNOWN_FORMAT,
)

SCREEN = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0)


@pytest.fixture(scope="module")
def decode():
    """The pixels, sizes and statuses of encoded images."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def traced(data):
        pixels, sizes, status = decode_each(data, 3)
        return pixels.read(0), sizes, status

    def decoded(*images: bytes):
        pixels, sizes, status = (output.numpy() for output in traced(tf.constant(images)))
        return pixels, sizes.tolist(), [text.decode() for text in status]

    return decoded


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)


def test_images_beyond_the_pixel_limit_of_a_request_are_refused_and_take_no_memory(
    monkeypatch, encode
):
    monkeypatch.setattr(c, "MAX_REQUEST_PIXELS", 250)
    images = [np.full((10, 10, 3), i, np.uint8) for i in range(4)]
    encoded = [encode(image, "PNG") for image in images]
    pixels, sizes, status = tf.function(lambda data: _stacked(*decode_each(data, 3)))(
        tf.constant(encoded)
    )
    assert status.numpy().tolist() == [
        b"",
        b"",
        c.TOO_MANY_PIXELS.encode(),
        c.TOO_MANY_PIXELS.encode(),
    ]
    assert sizes.numpy()[:, 0].tolist() == [10, 10, 0, 0]
    assert pixels.numpy().tolist() == [0] * 300 + [1] * 300


def _stacked(pixels, sizes, status):
    flat = [tf.reshape(pixels.read(i), [-1]) for i in range(4)]
    return tf.concat(flat, 0), sizes, status


def test_images_after_the_pixel_limit_of_a_request_are_not_decoded(monkeypatch, encode):
    monkeypatch.setattr(c, "MAX_REQUEST_PIXELS", 250)
    image = encode(np.zeros((10, 10, 3), np.uint8), "PNG")
    broken = image[: len(image) // 2]
    traced = tf.function(lambda data: decode_each(data, 3)[2])
    images = [image, broken, image, image, b"text", broken]
    # The last would be CORRUPT if it were decoded.
    status = [text.decode() for text in traced(tf.constant(images)).numpy()]
    assert status == [
        "",
        CORRUPT,
        "",
        c.TOO_MANY_PIXELS,
        UNKNOWN_FORMAT,
        c.TOO_MANY_PIXELS,
    ]


@pytest.mark.parametrize("kind", ["plain", "interlaced", "transparent", "comment", "animated"])
def test_a_gif_decodes_to_its_first_frame(decode, encode, grey, kind):
    image = Image.fromarray(grey)
    second_frame = Image.fromarray(255 - grey)
    coloured = Image.fromarray(np.stack([grey, grey.T.reshape(40, 50), 255 - grey], -1))
    options = {
        "plain": {"interlace": 0},
        "interlaced": {"interlace": 1},
        "transparent": {"transparency": 3},
        "comment": {"comment": b"words " * 1000},
        # The palettes after the first are local.
        "animated": {"save_all": True, "append_images": [second_frame, coloured.convert("P")]},
    }[kind]
    data = encode(image, "GIF", **options)
    pixels, sizes, status = decode(data)
    assert (sizes, status) == ([[40, 50]], [""])
    np.testing.assert_array_equal(pixels, tf.io.decode_gif(data)[0])


def test_a_gif_may_have_a_local_colour_table(decode, encode, grey):
    data = encode(Image.fromarray(grey), "GIF")
    offset = 13 + 3 * 256
    assert (data[10] & 0x87, data[offset]) == (0x87, 0x2C)
    flags = bytes([data[offset + 9] | 0x87])
    local = (
        data[:10]
        + b"\0\0\0"
        + data[offset : offset + 9]
        + flags
        + data[13:offset]
        + data[offset + 10 :]
    )
    pixels, _, status = decode(local)
    assert status == [""]
    np.testing.assert_array_equal(pixels[..., 0], grey)


def test_a_gif_frame_larger_than_its_screen_counts_for_the_limit(decode, encode):
    data = encode(Image.new("P", (8001, 8000)), "GIF")
    patched = data[:6] + struct.pack("<HH", 1, 1) + data[10:]
    assert decode(patched)[1:] == ([[0, 0]], [TOO_LARGE])


def test_the_frames_of_a_gif_after_the_first_are_not_decoded(decode, encode, grey):
    data = encode(Image.fromarray(grey), "GIF")
    larger = encode(Image.new("P", (60, 70)), "GIF", interlace=0)
    frame = larger[larger.index(b"\x2c\0\0\0\0\x3c\0\x46\0") : -1]
    pixels, sizes, status = decode(data[:-1] + frame * 100 + b";")
    assert (sizes, status) == ([[40, 50]], [""])
    np.testing.assert_array_equal(pixels[..., 0], grey)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", CORRUPT),
        (b";", CORRUPT),
        (b"!", CORRUPT),
        (b"!\xfe\xff", CORRUPT),
        (b"!\xfe\x00" * 3 + b";", CORRUPT),
        (b"\x2c\0\0\0\0\0\0\x08\0\0\x08\0;", NO_PIXELS),
        (b"\x2c\0\0\0\0\xff\xff\xff\xff\xff", TOO_LARGE),
    ],
)
def test_a_gif_without_a_good_frame_is_refused(decode, body, status):
    assert decode(SCREEN + body)[2] == [status]


def test_a_gif_truncated_anywhere_fails_no_other_image(decode, encode, grey):
    second_frame = Image.fromarray(255 - grey)
    data = encode(Image.fromarray(grey), "GIF", save_all=True, append_images=[second_frame])
    ends = [*range(6, 14), *range(13 + 3 * 256, len(data), 23)]
    *statuses, good = decode(*(data[:end] for end in ends), data)[2]
    assert good == ""
    assert set(statuses) <= {"", CORRUPT, NO_PIXELS}


@pytest.mark.parametrize(
    "blocks", [b"\x01a" * 2_000_000, b"\x01a\x02aa" * 800_000, b"\0!\xfe" * 1_300_000]
)
def test_a_gif_of_millions_of_blocks_is_refused_quickly(decode, blocks):
    begin = time.monotonic()
    assert decode(SCREEN + b"!\xfe" + blocks)[2] == [CORRUPT]
    assert time.monotonic() - begin < 10
