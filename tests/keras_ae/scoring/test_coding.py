import io
import struct

import numpy as np
import pytest
from PIL import Image

from keras_ae.scoring import coding


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize("code", [coding.encode_jpeg, coding.encode_webp])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_codec_stays_within_its_bytes(photographs, code, channels):
    image = photographs[0][:200, :250, :channels]
    small, large = code(image, 2000), code(image, 6000)
    assert 1500 < small.size <= 2000 < large.size <= 6000
    assert small.pixels.shape == image.shape
    assert small.pixels.dtype == np.uint8
    assert psnr(large.pixels, image) > psnr(small.pixels, image) + 2 > 25


@pytest.mark.parametrize("code", [coding.encode_jpeg, coding.encode_webp])
def test_the_next_quality_would_not_fit(photographs, code):
    image = photographs[1][:120, :160, :1]
    best = code(image, 3000)
    assert code(image, best.size).size == best.size
    assert code(image, best.size - 1).quality < best.quality


@pytest.mark.parametrize("code", [coding.encode_jpeg, coding.encode_webp])
def test_none_if_not_even_the_lowest_quality_fits(photographs, code):
    assert code(photographs[0][:64, :64], 10) is None


def test_the_better_chroma_is_taken():
    # Stripes of red and blue as wide as a pixel are lost at half the resolution.
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2, 0] = image[:, 1::2, 2] = 255
    assert psnr(coding.encode_jpeg(image, 10_000).pixels, image) > 25


def test_only_the_scan_of_a_jpeg_is_counted(photographs, encode):
    image = photographs[0][:64, :64]
    coded = coding.encode_jpeg(image, 4000)
    candidates = [
        encode(image, "JPEG", quality=coded.quality, subsampling=sampling)
        for sampling in ("4:2:0", "4:4:4")
    ]
    scans = []
    for data in candidates:
        start = data.rindex(b"\xff\xda")
        length = struct.unpack(">H", data[start + 2 : start + 4])[0]
        scans.append(len(data[start + 2 + length : data.rindex(b"\xff\xd9")]))
    assert coded.size in scans


def test_the_header_of_a_webp_is_not_counted(photographs, encode):
    image = photographs[0][:64, :64]
    coded = coding.encode_webp(image, 4000)
    data = encode(image, "WEBP", quality=coded.quality, method=6)
    assert 0 <= len(data) - 30 - coded.size <= 1
    with Image.open(io.BytesIO(data)) as decoded:
        assert np.array_equal(np.asarray(decoded), coded.pixels)


def test_webp_refuses_longer_sides():
    assert coding.encode_webp(np.zeros((1, 16384, 3), np.uint8), 10**6) is None


def test_a_quantizer_is_exact_to_half_a_step_in_its_range():
    rng = np.random.default_rng(0)
    scales = np.array([0.1, 1, 30, 0], np.float32)
    parts = [rng.normal(size=(1, 5, 7, 4)).astype(np.float32) * scales for _ in range(3)]
    quantizer = coding.fit_quantizer(parts)
    for latents in parts:
        levels = quantizer.encode(latents)
        assert levels.dtype == np.uint8
        step = (quantizer.high - quantizer.low) / 255
        assert (np.abs(quantizer.decode(levels) - latents) <= step * 0.51).all()
    beyond = quantizer.decode(quantizer.encode(parts[0] + 1000))
    assert np.allclose(beyond[..., :3], quantizer.high[:3], rtol=1e-6)
