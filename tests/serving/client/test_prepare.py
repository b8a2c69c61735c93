"""What the client sends of an image, against what ingest stores of it and the graph decodes."""

import contextlib
import struct
import sys
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ae.datasets.images.decoding import decode_each
from keras_ae.datasets.images.headers import detect_format
from keras_ae.datasets.images.levels import White, scale_table
from keras_ae.datasets.images.normalize import decode
from keras_ae.errors import DataError
from serving.client import formats
from serving.client.images import measure
from serving.client.originals import read_original, read_pixels
from serving.client.plans import Plans
from serving.client.prepare import FIRST_PAGE, prepare
from tests.corpus.formats import SAME, WHITE, Sample, rgba, samples
from tests.corpus.images import images
from tests.corpus.metadata import metadata
from tests.corpus.pictures import PNG, chunk, encoded, ihdr


@pytest.fixture(scope="module", params=[1, 3])
def served(request):
    """The number of channels, and a function that decodes an image as a server does."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def traced(data):
        pixels, _, status = decode_each(data, request.param, WHITE)
        return pixels.read(0), status[0]

    def decode_raw(data: bytes) -> np.ndarray:
        pixels, status = traced(tf.constant([data]))
        assert status.numpy() == b""
        return pixels.numpy()

    return request.param, decode_raw


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_a_server_decodes_the_pixels_that_ingest_stores(served, sample: Sample):
    channels, decode_raw = served
    sent = prepare(sample.data)
    ingested = decode(sample.data, channels, white=White(WHITE))
    assert np.array_equal(decode_raw(sent.data), ingested)
    assert np.array_equal(read_pixels(sent.data, channels, WHITE), ingested)
    assert (sent.data == sample.data) == (sample.raw == SAME)
    assert sent.note == (FIRST_PAGE if sample.name.startswith("two-pages") else "")
    assert formats.detect_format(sample.data) == detect_format(sample.data)


def number_tiff(pixels) -> bytes:
    return encoded(Image.fromarray(pixels), "TIFF")


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.array([[0, 500]], np.float32), "levels from 0 to 500, expected 0 to 1"),
        (np.array([[-0.5, 0.5]], np.float32), "levels from -0.5 to 0.5, expected 0 to 1"),
        (np.array([[np.nan, 0.5]], np.float32), "levels from nan to nan"),
        (np.array([[0, 500]], np.int32), "32-bit integer levels from 0 to 500"),
    ],
)
def test_other_numbers_need_the_level_of_white(pixels, message):
    data = number_tiff(pixels)
    with pytest.raises(DataError, match=f"{message}.*--white LEVEL"):
        prepare(data)
    expected = decode(data, 1, white=White(None, 500))
    assert np.array_equal(read_pixels(prepare(data, white=500).data, 1), expected)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("transparent", [False, True])
def test_a_turned_16_bit_png_keeps_its_levels(served, orientation, channels, transparent):
    rng = np.random.default_rng(orientation)
    pixels = rng.integers(0, 65536, (12, 10, channels)).astype(np.uint16)
    data = tf.io.encode_png(pixels).numpy()
    exif = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0" + bytes([orientation, 0, 0, 0] + 4 * [0])
    chunks = chunk(b"eXIf", exif)
    if transparent and channels in (1, 3):
        chunks += chunk(b"tRNS", pixels[3, 3].astype(">u2").tobytes())
    data = data[:33] + chunks + data[33:]
    sent = prepare(data).data
    assert sent != data
    model_channels, decode_raw = served
    assert np.array_equal(decode_raw(sent), decode(data, model_channels, white=White(WHITE)))


@pytest.mark.parametrize("white", [4095, 3000])
def test_the_levels_of_a_model_are_those_that_give_its_error(white):
    pixels = np.random.default_rng(0).integers(0, 4096, (12, 10, 1)).astype(np.uint16)
    data = tf.io.encode_png(pixels).numpy()
    original = scale_table(white)[pixels]
    reconstruction = np.full_like(original, 100)
    mse = float(np.mean(((original.astype(float) - reconstruction) / 255) ** 2))
    found, level = read_original(data, reconstruction, mse)
    assert level == (4095 if white == 4095 else None)
    assert white != 4095 or np.array_equal(found, original)
    found, level = read_original(data, reconstruction, mse, white)
    assert level == white
    assert np.array_equal(found, original)


def bmp(bits: int, compression: int, body: bytes, colours: int = 0) -> bytes:
    palette = b"".join(bytes([9 * i % 256, 5 * i % 256, i, 0]) for i in range(colours))
    start = 54 + len(palette)
    info = struct.pack(
        "<IiiHHIIiiII", 40, 10, 12, 1, bits, compression, len(body), 0, 0, colours, 0
    )
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + info + palette + body


@pytest.mark.parametrize(
    "data",
    [
        encoded(rgba().convert("1"), "BMP"),
        bmp(4, 0, bytes(range(96)), 16),
        bmp(8, 1, b"\x0a\x4d\0\0" * 12 + b"\0\1", 256),
        bmp(16, 0, bytes(range(240))),
        encoded(rgba().convert("RGB").quantize(16), "GIF").replace(
            b"\x0a\0\x0c\0", b"\x0e\0\x10\0", 1
        ),
    ],
    ids=["1 bit", "4 bits", "run lengths", "16 bits", "a part of a GIF"],
)
def test_unusual_files_that_the_graph_cannot_decode_are_converted(served, data):
    channels, decode_raw = served
    assert np.array_equal(decode_raw(prepare(data).data), decode(data, channels))


def test_a_bad_file_is_refused_or_left_to_the_server_and_never_crashes():
    rng = np.random.default_rng(0)
    for sample in samples():
        for cut in (9, 40, len(sample.data) // 2):
            try_to_prepare(sample.data[:cut])
        for _ in range(10):
            changed = np.frombuffer(sample.data, np.uint8).copy()
            changed[rng.integers(0, len(changed), 4)] = rng.integers(0, 256, 4)
            try_to_prepare(changed.tobytes())
    for data in (b"", b"text"):
        assert prepare(data).data == data


def try_to_prepare(data: bytes) -> None:
    with contextlib.suppress(DataError):
        prepare(data)


def test_large_images_and_metadata_are_refused_before_they_are_decoded():
    bombs = {
        "more than the limit": b"P5 10000 10000 255\n",
        "than the limit of": encoded(
            Image.new("1", (10_000, 10_000)), "TIFF", compression="group4"
        ),
        "raw file": encoded(rgba().convert("RGB"), "TIFF", tiffinfo={254: 1}),
        "unsupported compression": encoded(rgba(), "TIFF").replace(
            b"\3\1\3\0\1\0\0\0\1\0", b"\3\1\3\0\1\0\0\0\x6d\x88"
        ),
        "expected numbers": b"P2 2 2 255\n1 2 x 4\n",
        "truncated": b"P6 20 20 255\n123",
        "be decoded: truncated": b"P2 2 2 255\n100 200 3",
    }
    for message, data in bombs.items():
        with pytest.raises(DataError, match=message):
            prepare(data)


@pytest.mark.parametrize("name", [n for n, (_, outcome) in metadata().items() if "EXIF" in outcome])
def test_metadata_that_would_take_gigabytes_are_refused_unread(name, monkeypatch):
    monkeypatch.setattr(Image.Exif, "load", lambda self, data: pytest.fail("it was read"))
    data, _ = metadata()[name]
    measure(data)
    with pytest.raises(DataError, match="values of its metadata are larger than the file"):
        prepare(data)


def test_hostile_images_are_refused_or_left_to_the_server():
    """Each took up to minutes, or did not end."""
    messages = {
        "comment-of-20-mb.gif": "a header in more than 16,384 parts",
        "fillers-of-20-mb.jpg": "a header in more than 16,384 parts",
        "60000-tags.tif": "a header in more than 16,384 parts",
        "60000000x1-of-one-run.bmp": "a run-length encoded BMP of more than 2,000,000 pixels",
        "comments-of-4-mb.ppm": "without a header in its first 65,536 bytes",
    }
    for name, (data, _) in images().items():
        if name in messages:
            with pytest.raises(DataError, match=messages[name]):
                prepare(data)
        elif data is not None:
            measure(data)
            try_to_prepare(data)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("is_before", [True, False])
def test_a_truncated_png_is_never_sent_unturned(depth, is_before):
    turned = chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x06" + bytes(7))
    row = np.random.default_rng(0).bytes(30 * depth // 8 * 3)
    body = chunk(b"IDAT", zlib.compress(20 * (b"\0" + row))[:-40])
    parts = (turned, body) if is_before else (body, turned)
    data = b"".join((PNG, ihdr(30, 20, depth), *parts, chunk(b"IEND")))
    for read in (prepare, lambda data: decode(data, 3)):
        with pytest.raises(DataError, match=r"cannot be decoded: .*truncated"):
            read(data)


def test_plain_files_and_comments_are_read(served):
    channels, decode_raw = served
    files = [
        b"P1\n# a comment\n3 2\n1 0 1\n010\n",
        b"P2 3 1 6 0 1 6 ",
        b"P3 1 2 1000\n0 500 1000\n# colours\n1 2 3",
        b"P4 3 2\n\xa0\x40",
    ]
    for data in files:
        expected = decode(data, channels, white=White(WHITE))
        assert np.array_equal(decode_raw(prepare(data).data), expected)


def test_heic_without_its_package_names_it(monkeypatch):
    heic = next(sample.data for sample in samples() if sample.name == "rgb.heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DataError, match="HEIC needs pillow-heif"):
        prepare(heic)


@pytest.mark.parametrize(("channels", "requests"), [(1, 8), (8, 8), (128, 4)])
def test_latents_are_split_by_what_they_decode_to(channels, requests):
    # A position of a latent of one channel may be decoded to as many pixels as one of many.
    plans = Plans(rest=False, max_bytes=2**20, max_images=100)
    side = 64 if channels < 128 else 32
    latents = np.zeros((8, side, side, channels), np.float32)
    assert len(plans.decode(latents).exchanges) == requests
