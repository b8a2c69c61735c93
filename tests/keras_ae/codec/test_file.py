import base64
import hashlib
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from keras_ae.codec.file import compress, decode, decompress, encode, quantize, read_header
from keras_ae.codec.steps import nearest_step, step_values
from keras_ae.errors import ConfigurationError, MissingExtraError
from tests.keras_ae.codec.conftest import header_of, smooth
from tests.keras_ae.codec.second_reader import read_tile

GOLDEN = (
    "iUtBRQEACADPoFyeAGEgbW9kZWxIAAAANwAAAAgAAwAACAUICggPCBQIGQgeCCMI9tYvAAs5MyOxxQ9/FjsmBriaPG"
    "XBuibjK9aTe5SEKXVmzkf39tq08twc9O/gdeZ/qUba3iFEclXkDfqazkBdU9Ow+/DwLObrWdYTcBROfBBvBda88n8Y"
    "GObCZWUowvZ1k4ToQJdZ6GBLzou3i0IrIQGKNjg3ycSbGIWLi3dDzgAV0Q001C0Evoee6vn5+t20tA9VvPV84TRUFJ"
    "Q887lH6saDlsIEHW7pVFeqJEhGZqejf1rmAam0rKcAAxIhsS947mjSbApe6uwp24eRuVGPY+ppsgkli1Qb"
)
SHA256 = {
    "large": "a5d7c55a78e64887",
    "tiles": "bc702915b30308d0",
    "wide": "f8a9d068a7cda693",
    "channels": "e6f9c4f5bce32826",
}


def check(values):
    header = header_of(values.shape)
    data = encode(values, header)
    decoded, found = decode(data)
    np.testing.assert_array_equal(decoded, values)
    assert found == header
    return data


def test_values_come_back_whatever_their_distribution():
    random = np.random.default_rng(0)
    for _ in range(60):
        shape = tuple(random.integers(1, 7, 3))
        scale = 2.0 ** random.uniform(-3, 33)
        levels = random.standard_cauchy(shape) * scale + random.normal() * scale
        check(np.clip(np.rint(levels), -(2**31), 2**31 - 1).astype(np.int32))


@pytest.mark.parametrize("value", [-(2**31), -1, 0, 1, 24, 25, 26, 4096, 2**31 - 1])
def test_constant_values_come_back(value):
    check(np.full((3, 4, 2), value, np.int32))


def test_all_lengths_from_1_to_70_come_back():
    for length in range(1, 71):
        check(smooth((1, length, 2), seed=length))
        check(smooth((length, 1, 1), seed=length))
        if length % 6 == 5:
            check(smooth((length, 71 - length, 3), seed=length))


def test_tiles_come_back():
    """Tiles of 512, 256 and 16 positions: whole ones, and smaller ones at the edges."""
    for shape in (2, 515, 1), (258, 1, 5), (1, 17, 600):
        check(smooth(shape))


def test_files_stay_the_same():
    """A golden file: whatever changes here, files of this version must be read as before."""
    values, header = decode(base64.b64decode(GOLDEN))
    np.testing.assert_array_equal(values, smooth((7, 9, 8)))
    assert header == header_of((7, 9, 8))
    assert encode(values, header) == base64.b64decode(GOLDEN)


@pytest.mark.parametrize("case", ["large", "tiles", "wide", "channels"])
def test_encoded_values_stay_the_same(case):
    values = {
        "large": smooth((9, 8, 3), step=9) ** 5,
        "tiles": smooth((3, 515, 1)),
        "wide": smooth((40, 50, 8), step=40),
        "channels": smooth((5, 6, 40)),
    }[case]
    assert hashlib.sha256(check(values)).hexdigest()[:16] == SHA256[case]


def test_the_same_bytes_come_from_any_layout_and_error_state(photo):
    header = header_of(photo.shape)
    data = compress(photo, header, 64)
    with np.errstate(all="raise"):
        assert compress(photo.astype(">f4"), header, 64) == data
        assert compress(np.asfortranarray(photo), header, 64) == data
        assert compress(photo[::-1][::-1].astype(np.float64), header, 64) == data
        latents, _ = decompress(bytearray(data))
    np.testing.assert_array_equal(latents, decompress(memoryview(data))[0])


def test_latents_come_back_within_a_step(photo):
    header = header_of(photo.shape)._replace(width=190)
    data, expected = quantize(photo, header, 32)
    latents, found = decompress(data)
    assert latents.dtype == np.float32
    np.testing.assert_array_equal(latents, expected)
    steps = tuple(step + 32 for step in header.steps)
    assert found == read_header(data) == header._replace(steps=steps, quality=92)
    assert (np.abs(latents - photo) <= step_values(np.array(found.steps)) + 1e-6).all()
    assert np.abs(latents - photo).mean() < 0.5 * step_values(np.array(found.steps)).mean()


def test_neighbours_and_coarse_steps_save_bytes(photo):
    header = header_of(photo.shape)
    shuffled = np.random.default_rng(0).permutation(photo.reshape(-1, 8)).reshape(photo.shape)
    size = len(compress(photo, header))
    assert size < 0.9 * len(compress(shuffled, header))
    assert len(compress(photo, header, 128)) < 0.75 * size


def test_a_header_takes_32_bytes_and_two_per_channel():
    for channels in 1, 8, 60:
        data = encode(np.zeros((1, 1, channels), np.int32), header_of((1, 1, channels)))
        assert len(data) - 32 - 2 * channels <= 4 + channels // 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_id": b"short"}, "8 bytes, not 5"),
        ({"width": 0}, "not 0x151"),
        ({"width": 8_000, "height": 8_001}, "1 to 64000000 pixels, not 8000x8001"),
        ({"image_channels": 2}, "1 or 3 channels, not 2"),
        ({"stride": 256}, "1 to 255, not 256"),
        ({"steps": ()}, "1 to 1024 channels, not 0"),
        ({"stride": 16}, r"shape \(10, 12, 8\), not \(19, 24, 8\)"),
    ],
)
def test_headers_that_cannot_be_stored_are_refused(photo, change, message):
    with pytest.raises(ConfigurationError, match=message):
        compress(photo, header_of(photo.shape)._replace(**change))


def test_latents_that_are_no_numbers_are_refused(photo):
    with pytest.raises(ConfigurationError, match="finite"):
        compress(np.where(photo > 0, photo, np.nan), header_of(photo.shape))


def test_coding_needs_memory_for_a_tile_only(monkeypatch):
    monkeypatch.setattr("keras_ae.codec.file.MAX_TILE_VALUES", 1 << 12)
    peaks = []
    for side in 64, 128:
        values = smooth((side, side, 1))
        tracemalloc.start()
        decode(encode(values, header_of(values.shape)))
        peaks.append(tracemalloc.get_traced_memory()[1] - 2 * values.nbytes)
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_steps_are_on_a_grid_of_whole_numbers():
    assert step_values(np.array([2048, 2112, 1984])).tolist() == [1, 2, 0.5]
    indices = np.arange(4096)
    np.testing.assert_allclose(step_values(indices), 2.0 ** ((indices - 2048) / 64), rtol=2e-9)
    assert [nearest_step(value) for value in step_values(indices[::97])] == indices[::97].tolist()
    assert nearest_step(1e30) == 4095
    assert nearest_step(1e-30) == 0


def test_no_tensorflow_and_no_keras_are_imported():
    program = "import sys, keras_ae.codec.search; print({'keras', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_a_missing_coder_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(MissingExtraError, match="constriction"):
        encode(np.zeros((1, 1, 1), np.int32), header_of((1, 1, 1)))


@pytest.mark.parametrize("kind", ["golden", "shifted", "escaped"])
def test_a_reader_from_the_documentation_reads_the_same(kind):
    values = {
        "golden": smooth((7, 9, 8)),
        "shifted": smooth((9, 8, 2), step=90),
        "escaped": smooth((6, 5, 3), step=9) ** 5 // 7,
    }[kind]
    np.testing.assert_array_equal(read_tile(encode(values, header_of(values.shape))), values)
