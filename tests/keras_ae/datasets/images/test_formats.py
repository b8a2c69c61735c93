import io
import struct
import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from keras_ae.datasets.images.headers import detect_format, looks_like_image, read_header
from keras_ae.datasets.images.normalize import decode, normalize
from keras_ae.datasets.images.tiff import has_other_pages
from keras_ae.errors import DataError
from tests.corpus.pictures import encoded, picture

RGB = picture(1, 9, 13)
PIXELS = np.asarray(RGB)


def heic(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, **options)
    return buffer.getvalue()


def tiff(*entries: tuple[int, int, int, int], subdirectory: bytes = b"", size: int = 1000) -> bytes:
    """A little-endian TIFF with these entries: tag, type, count and value."""
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (head + body + bytes(4) + subdirectory).ljust(size, b"\0")


SIZE = ((256, 4, 1, 5), (257, 4, 1, 5))


@pytest.mark.parametrize(
    "options", [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}]
)
def test_tiff_is_lossless(options):
    data = encoded(RGB, "TIFF", **options)
    assert read_header(data) == ("tiff", 9, 13)
    stored, header = normalize(data, 3)
    assert header == read_header(stored) == ("png", 9, 13)
    assert np.array_equal(decode(stored, 3), PIXELS)


@pytest.mark.parametrize("big", [False, True])
def test_the_first_page_of_a_tiff_is_read(big):
    data = encoded(RGB, "TIFF", save_all=True, append_images=[picture(2)], big_tiff=big)
    assert np.array_equal(decode(data, 3), PIXELS)
    assert has_other_pages(data)
    assert not has_other_pages(encoded(RGB, "TIFF", big_tiff=big))


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_binary_netpbm_has_the_pixels_that_pillow_reads(mode):
    data = encoded(RGB.convert(mode), "PPM")
    assert read_header(data) == ("ppm", 9, 13)
    assert np.array_equal(decode(data, 3), np.asarray(RGB.convert(mode).convert("RGB")))


@pytest.mark.parametrize(
    "text",
    [
        b"P1\n# c\n3 2\n101 01#x\n0",
        b"P2\n3 2 # c\n15\n0 1 2 # c\n13 14 15",
        b"P3 1 2 200\n0 100 200\n3 2 1\n",
        b"P5 3 2 7\n\0\1\2\3\4\7",
    ],
)
def test_plain_and_scaled_netpbm_has_the_pixels_that_pillow_reads(text):
    expected = np.asarray(Image.open(io.BytesIO(text)).convert("RGB"))
    assert np.array_equal(decode(text, 3), expected)


def test_avif_mpo_and_heic_are_read():
    smooth = RGB.resize((4, 4)).resize((64, 64), Image.Resampling.BICUBIC)
    avif = encoded(smooth, "AVIF", quality=100)
    mpo = encoded(smooth, "MPO", save_all=True, append_images=[picture(2)], quality=100)
    apple = heic(smooth, quality=100)
    formats = {"avif": avif, "jpeg": mpo, "heic": apple}
    for name, data in formats.items():
        assert read_header(data) == (name, 64, 64)
        assert np.abs(decode(data, 3).astype(int) - np.asarray(smooth)).mean() < 3
    assert normalize(mpo, 3)[0] == mpo


def test_heic_without_its_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DataError, match="HEIC: install pillow-heif"):
        decode(heic(RGB), 3)


def test_formats_are_known_by_their_first_bytes():
    assert looks_like_image(encoded(RGB, "TIFF", big_tiff=True)[:32])
    for text in (b"P7\n", b"P6", b"P", b"PK\3\4", b"", b"\0\0\0\x18ftypmp42" + bytes(12)):
        assert detect_format(text) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff((256, 4, 1, 60_000), (257, 4, 1, 60_000)), "60000x60000 is more than the limit"),
        (tiff(*SIZE, *((1000 + i, 2, 900, 0) for i in range(9))), "larger than the file"),
        (tiff(*SIZE, (34665, 4, 1, 100), subdirectory=b"\0" * 4), "decoded"),
        (tiff(*SIZE, (322, 4, 1, 2**16), (323, 4, 1, 2**16)), "tiles of more than"),
        (tiff(*SIZE, (273, 4, 1, 900), (279, 4, 1, 900)), "truncated"),
        (tiff(*SIZE, (259, 3, 1, 34925)), "unsupported compression"),
        (tiff(*SIZE, (254, 4, 1, 1)), "a camera's raw file"),
        (tiff(*SIZE)[:30], "truncated"),
        (b"II*\0\0\0\0\0", "truncated"),
        (b"P6 60000 60000 255\n", "60000x60000 is more than the limit"),
        (b"P6 600 600 255\n" + bytes(99), "truncated"),
        (b"P5 6 6 70000\n" + bytes(99), "level of white of 70000"),
        (b"P2 6 6 255\n" + b"1 " * 35 + b"1111111", "up to 65535"),
        (b"P2 6 6 255\n" + b"1" * 90, "up to 65535"),
        (b"P2 6 6 255\n" + b"1 1" + b" " * 99, "truncated"),
        (b"P3 9000 7000 255\n" + b"1 " * 99, "a plain PGM or PPM of more than"),
        (b"P1 6 6\n" + b" " * 99, "truncated"),
        (b"P5 6", "truncated"),
        (b"\0\0\0\x0cftypavif" + bytes(50), "truncated"),
    ],
)
def test_hostile_files_are_refused(data, reason):
    with pytest.raises(DataError, match=reason):
        decode(data, 3)


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "AVIF", "HEIC"])
def test_a_size_that_is_too_large_is_refused_from_the_header(kind):
    data = bytearray(heic(RGB) if kind == "HEIC" else encoded(RGB, kind))
    if kind in ("AVIF", "HEIC"):
        offset = data.index(b"ispe") + 8
        data[offset : offset + 8] = struct.pack(">II", 60_000, 60_000)
    elif kind == "PPM":
        data = data.replace(b"13 9", b"60000 60000")
    else:
        for tag in (256, 257):
            offset = data.index(struct.pack("<HHI", tag, 4, 1))
            data[offset : offset + 12] = struct.pack("<HHII", tag, 4, 1, 60_000)
    with pytest.raises(DataError, match="60000x60000 is more than the limit"):
        read_header(bytes(data))


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "AVIF", "HEIC"])
def test_truncated_files_are_refused(kind):
    data = heic(RGB) if kind == "HEIC" else encoded(RGB, kind)
    for size in (6, 20, len(data) // 3, len(data) // 2, len(data) - 40):
        with pytest.raises(DataError):
            decode(data[:size], 3)
