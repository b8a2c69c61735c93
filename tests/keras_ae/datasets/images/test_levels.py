import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ae.datasets.images import levels
from keras_ae.datasets.images.decoding_colours import from_decoder, from_png_decoder
from keras_ae.datasets.images.decoding_header import PNG_ALPHA, PNG_GREY_16
from keras_ae.datasets.images.normalize import decode, examine
from keras_ae.errors import DataError
from tests.corpus.pictures import encoded


def test_all_levels_and_alphas_are_composited_as_pillow_and_the_graph_do_it():
    levels_, alphas = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    pixels = np.stack([levels_] * 3 + [alphas], -1)
    exact = (levels_.astype(int) * alphas + 255 * (255 - alphas.astype(int)) + 127) // 255
    in_numpy = levels.over_white(levels_.astype(np.uint16), alphas.astype(np.uint16))
    in_graph = from_png_decoder(tf.constant(pixels), tf.constant(PNG_ALPHA), 3, 255)
    assert np.array_equal(in_numpy, exact)
    for composed in (decode(encoded(Image.fromarray(pixels), "PNG"), 3), in_graph):
        assert np.array_equal(composed, np.stack([exact] * 3, -1))


@pytest.mark.parametrize("white", [255, 1023, 3000, 4095, 16383, 65535])
def test_16_bit_levels_are_scaled_rounded_and_clipped(white):
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    exact = np.floor(np.minimum(every / white, 1) * 255 + 0.5)
    stored = decode(encoded(Image.fromarray(every), "PNG"), 1, white=levels.White(white))[..., 0]
    pairs = tf.bitcast(tf.constant(every), tf.uint8)
    pairs = tf.reshape(pairs, (256, 256, 2))
    in_graph = from_png_decoder(pairs, tf.constant(PNG_GREY_16), 1, white).numpy()[..., 0]
    assert np.array_equal(stored, exact)
    assert np.array_equal(in_graph, exact)


def test_all_colours_have_the_grey_of_pillow():
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    grey = from_decoder(tf.constant(pixels), tf.constant(0), tf.constant(b""), 1)
    assert np.array_equal(grey[..., 0], Image.fromarray(pixels).convert("L"))


@pytest.mark.parametrize(
    ("largest", "white"), [(0, 255), (255, 255), (256, 1023), (4095, 4095), (4096, 16383)]
)
def test_the_range_of_an_image_is_the_smallest_that_holds_its_levels(largest, white):
    image = Image.fromarray(np.array([[0, largest]], np.uint16))
    examined = examine(encoded(image, "PNG"), 1, white=levels.OWN_RANGE)
    assert examined.white == white
    assert decode(examined.data, 1).max() == round(255 * largest / white)


def test_hidden_levels_do_not_count_for_the_range():
    pixels = np.array([[[4000, 0, 0, 65535], [65535, 65535, 65535, 0]]], np.uint16)
    examined = examine(tf.io.encode_png(pixels).numpy(), 3, white=levels.OWN_RANGE)
    assert examined.white == 4095
    assert decode(examined.data, 3).tolist() == [[[249, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_colours_of_a_tiff_are_exact(compression, channels, order):
    pixels = np.random.default_rng(0).integers(0, 4096, (9, 14, channels), np.uint16)
    if channels == 4:
        pixels[..., 3] = 65535
    data = sixteen_bit_tiff(pixels, order, compression)
    examined = examine(data, 3, white=levels.OWN_RANGE)
    assert examined.white == 4095
    expected = levels.scale_table(4095)[pixels[..., :3]]
    assert np.array_equal(decode(examined.data, 3), expected)


def sixteen_bit_tiff(pixels: np.ndarray, order: str, compression: str | None) -> bytes:
    """A TIFF with one strip."""
    import struct
    import zlib

    height, width, channels = pixels.shape
    strip = pixels.astype(f"{order}u2").tobytes()
    number = {None: 1, "tiff_adobe_deflate": 8, "tiff_lzw": 5}[compression]
    if number == 8:
        strip = zlib.compress(strip)
    elif number == 5:
        strip = lzw(strip)
    entries = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, channels, 8),
        (259, 3, 1, number),
        (262, 3, 1, 2),
        (273, 4, 1, 16),
        (277, 3, 1, channels),
        (278, 3, 1, height),
        (279, 4, 1, len(strip)),
        *([(338, 3, 1, 2)] if channels == 4 else []),
    ]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 16 + len(strip))
    bits = struct.pack(f"{order}4H", *[16] * 4)
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        inline = f"{order}HHIHxx" if kind == 3 and count == 1 else f"{order}HHII"
        directory += struct.pack(inline, tag, kind, count, value)
    return head + bits + strip + directory + bytes(4)


def lzw(data: bytes) -> bytes:
    """LZW without compression: a code of 9 bits for each byte, with a clear code in between."""
    codes = []
    for i in range(0, len(data), 200):
        codes += [256, *data[i : i + 200]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def test_floats_are_0_to_1_and_other_numbers_need_a_level():
    unit = np.array([[0, 0.25, 0.5, 1]], np.float32)
    assert decode(tiff(unit), 1, white=levels.OWN_RANGE).ravel().tolist() == [0, 64, 128, 255]
    assert examine(tiff(unit), 1, white=levels.OWN_RANGE).white == 0
    others = {
        "floating-point levels from 0 to 500, expected 0 to 1": unit * 500,
        "floating-point levels from -0.5 to 0.5": unit - 0.5,
        "floating-point levels from nan": unit * np.nan,
        "32-bit integer levels from 0 to 500": (unit * 500).astype(np.int32),
    }
    for message, pixels in others.items():
        with pytest.raises(DataError, match=f"{message}.*--white LEVEL"):
            decode(tiff(pixels), 1, white=levels.OWN_RANGE)
        expected = np.nan_to_num(pixels * 255 / 500).clip(0, 255)
        assert (
            np.abs(decode(tiff(pixels), 1, white=levels.White(None, 500)).ravel() - expected).max()
            <= 0.5
        )


def tiff(pixels: np.ndarray) -> bytes:
    return encoded(Image.fromarray(pixels), "TIFF")
