import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ae.datasets.images.decoding import decode_bytes, decode_stored
from keras_ae.datasets.images.headers import read_header
from keras_ae.datasets.images.levels import OWN_RANGE
from keras_ae.datasets.images.normalize import decode, examine, normalize
from keras_ae.errors import DataError
from tests.corpus.formats import samples


@pytest.fixture
def photograph(photographs):
    return photographs[0][:60, :80]


def test_rgba_palette_grey_16_bit_and_cmyk_become_rgb_and_grey(photograph, encode):
    rgb = Image.fromarray(photograph)
    grey = np.asarray(rgb.convert("L"))
    encoded = {
        "RGBA": encode(rgb.convert("RGBA"), "PNG"),
        "palette": encode(rgb.quantize(255), "PNG"),
        "grey": encode(grey, "PNG"),
        "16-bit": encode(grey.astype(np.uint16) * 257, "PNG"),
        "CMYK": encode(rgb.convert("CMYK"), "JPEG", quality=98),
    }
    for name, data in encoded.items():
        for channels, expected in ((1, grey), (3, photograph)):
            pixels = decode(data, channels)
            assert pixels.dtype == np.uint8
            assert pixels.shape == (60, 80, channels)
            if name in ("grey", "16-bit"):
                expected = grey[..., None]
            expected = expected if expected.ndim == 3 else expected[..., None]
            assert np.abs(pixels.astype(int) - expected).mean() < 6, name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(photograph, encode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photograph, "PNG", exif=exif.tobytes())
    expected = {
        1: photograph,
        2: photograph[:, ::-1],
        3: photograph[::-1, ::-1],
        4: photograph[::-1],
        5: photograph.transpose(1, 0, 2),
        6: photograph.transpose(1, 0, 2)[:, ::-1],
        7: photograph.transpose(1, 0, 2)[::-1, ::-1],
        8: photograph.transpose(1, 0, 2)[::-1],
    }[orientation]
    assert np.array_equal(decode(data, 3), expected)
    again, header = normalize(data, 3)
    assert np.array_equal(decode(again, 3), expected)
    assert (header.height, header.width) == expected.shape[:2]


@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_an_image_with_an_unreadable_exif_block_is_decoded(photograph, encode):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\2" + b"\x01\x12\0\3\xff\xff\xff\xff" * 3
    assert decode(encode(photograph, "JPEG", exif=exif), 3).shape == photograph.shape


def test_a_gif_whose_frame_is_larger_than_its_canvas_is_refused(encode):
    data = bytearray(encode(Image.new("L", (8, 8)), "GIF"))
    offset = data.index(b"\x2c")
    data[offset + 5 : offset + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(DataError):
        decode(bytes(data), 3)


def test_an_animation_decodes_to_its_first_frame(photograph, encode):
    frames = [Image.fromarray(photograph), Image.fromarray(255 - photograph)]
    data = encode(frames[0], "WEBP", lossless=True, save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(data, 3), photograph)


def test_plain_images_are_stored_unchanged_and_others_as_png(photograph, encode):
    for kind in ("PNG", "JPEG"):
        data = encode(photograph, kind)
        assert normalize(data, 3)[0] is data
    data, header = normalize(encode(photograph, "BMP"), 3)
    assert header == read_header(data)
    assert header.format == "png"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP"])
def test_a_normalized_image_decodes_in_tensorflow_to_the_same_pixels(
    photograph, encode, kind, channels
):
    for image in (Image.fromarray(photograph), Image.fromarray(photograph).convert("L")):
        data = encode(image, kind)
        stored, _ = normalize(data, channels)
        pixels = decode_stored(tf.constant(stored), channels).numpy()
        difference = np.abs(pixels.astype(int) - decode(data, channels))
        # JPEG decoders may differ by rounding; everything else is lossless.
        assert difference.max() <= (3 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_a_truncated_or_corrupt_body_is_refused(photograph, encode, kind):
    data = encode(photograph, kind)
    for bad in (data[: len(data) // 2], data[:60] + b"\0" * 40):
        with pytest.raises(DataError):
            decode(bad, 3)
        with pytest.raises(DataError):
            normalize(bad, 3)


def test_changed_bytes_give_pixels_or_a_data_error(photograph, encode):
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        good = np.frombuffer(encode(photograph, kind), np.uint8)
        for _ in range(60):
            bad = good.copy()
            bad[rng.integers(0, len(bad), 6)] = rng.integers(0, 256, 6)
            try:
                pixels = decode(bad.tobytes(), 3)
            except DataError:
                continue
            assert pixels.ndim == 3


def test_normalizing_twice_changes_nothing(photograph, encode):
    once, _ = normalize(encode(photograph, "GIF"), 3)
    assert normalize(once, 3)[0] is once
    assert Image.open(io.BytesIO(once)).mode == "RGB"


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_that_are_not_encoded_are_those_of_the_png(sample, channels):
    stored = examine(sample.data, channels, white=OWN_RANGE)
    unencoded = examine(sample.data, channels, white=OWN_RANGE, encode=False)
    if stored.data == sample.data:
        assert unencoded == stored
        return
    assert np.array_equal(unencoded.pixels, decode_bytes(stored.data, channels))
    assert unencoded._replace(pixels=None, data=stored.data) == stored
