import numpy as np
import pytest

from keras_ae.codec.file import compress, decompress
from keras_ae.codec.search import compress_to_psnr, compress_to_size
from keras_ae.codec.steps import scale_of_quality
from keras_ae.errors import ConfigurationError
from tests.keras_ae.codec.conftest import header_of

SHAPE = 6, 7, 8


@pytest.fixture(scope="module")
def latents(photo) -> np.ndarray:
    return photo[:6, :7] * 30


def test_the_best_file_of_a_size_is_found(latents):
    header = header_of(SHAPE)
    for max_bytes in 80, 150, 300:
        data = compress_to_size(latents, header, max_bytes)
        assert max_bytes - 20 < len(data) <= max_bytes


def test_a_size_out_of_reach_is_refused_with_the_smallest(latents):
    smallest = len(compress(latents, header_of(SHAPE), 576))
    with pytest.raises(ConfigurationError, match=f"at least {smallest} bytes, and 50 are allowed"):
        compress_to_size(latents, header_of(SHAPE), 50)


def test_the_smallest_file_of_a_psnr_is_found(latents):
    def measure(decoded):
        return 40 - 10 * np.log10(np.square(decoded - latents).mean() + 1e-3)

    for target in 10.0, 25.0, 40.0:
        data = compress_to_psnr(latents, header_of(SHAPE), target, measure)
        assert target <= measure(decompress(data)[0]) < target + 1.5
    with pytest.raises(
        ConfigurationError, match=r"reaches -?\d+.\d\d to \d\d.\d\d dB .* not 90.00"
    ):
        compress_to_psnr(latents, header_of(SHAPE), 90.0, measure)


def test_a_psnr_that_every_file_has_takes_the_smallest(latents):
    data = compress_to_psnr(latents, header_of(SHAPE), 3.0, lambda decoded: 5.0)
    assert data == compress(latents, header_of(SHAPE), 576)


def test_quality_is_a_scale_of_all_steps(latents):
    assert [scale_of_quality(quality) for quality in (100, 84, 1)] == [0, 64, 396]
    sizes = [len(compress(latents, header_of(SHAPE), scale_of_quality(q))) for q in (1, 50, 100)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]
