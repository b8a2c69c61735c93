import numpy as np
import pytest
from PIL import Image

from keras_ae.datasets.images.headers import Header, read_header
from keras_ae.errors import DataError

ENCODINGS = {
    "png": [("PNG", {})],
    "jpeg": [("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"exif": b"Exif" * 900})],
    "bmp": [("BMP", {})],
    "gif": [("GIF", {})],
    "webp": [("WEBP", {}), ("WEBP", {"lossless": True}), ("WEBP", {"exif": b"Exif\0\0"})],
}


@pytest.mark.parametrize("size", [(1, 1), (37, 301), (300, 5)])
@pytest.mark.parametrize("format", ENCODINGS)
def test_headers_agree_with_pillow(encode, format, size):
    image = Image.fromarray(np.zeros((*size, 3), np.uint8))
    for name, options in ENCODINGS[format]:
        data = encode(image, name, **options)
        assert read_header(data) == Header(format, *size)


def test_the_first_bytes_are_enough(encode):
    image = Image.fromarray(np.zeros((30, 40, 3), np.uint8))
    assert read_header(encode(image, "PNG")[:24]) == Header("png", 30, 40)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "empty"),
        (b"plain text", "not a PNG, JPEG"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\xff\xd8\xff\xe0", "truncated"),
        (b"RIFF\0\0\0\0WEBPVP8X", "truncated"),
        (b"GIF89a\0\0\x01\0", r"no pixels \(0x1\)"),
        (b"\x89PNG\r\n\x1a\n" + bytes(8) + (8001).to_bytes(4, "big") * 2, "8001x8001 is more than"),
    ],
)
def test_bad_headers_are_reported(data, text):
    with pytest.raises(DataError, match=text):
        read_header(data)
