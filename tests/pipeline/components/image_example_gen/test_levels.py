from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_ae import contract as c
from keras_ae.datasets.images.levels import FULL_RANGE, scale_table
from keras_ae.datasets.images.normalize import decode
from keras_ae.errors import DataError
from pipeline.components.image_example_gen import findings
from pipeline.components.image_example_gen.checks import CONSTANT, Check
from pipeline.components.image_example_gen.levels import LevelsAccumulator, describe_notes
from pipeline.runtime import ingested
from tests.corpus.pictures import encoded
from tests.pipeline.components.image_example_gen.test_executor import (
    examples_of,
    ingest,
    slices_of,
)


def grey(seed: int, side: int = 32) -> np.ndarray:
    """A smooth picture that uses all of 8 bits, uint8 [side, side]."""
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4), np.uint8))
    pixels = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).copy()
    pixels[0, :2] = 0, 255
    return pixels


def write(folder: Path, name: str, pixels: np.ndarray, kind: str = "PNG") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(encoded(Image.fromarray(pixels), kind))


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "images"


def stored_pixels(artifact, channels: int = 1) -> dict[str, np.ndarray]:
    return {
        example[c.IMAGE_SOURCE].decode(): decode(example[c.IMAGE_ENCODED], channels)[..., 0]
        for examples in examples_of(artifact).values()
        for example in examples
    }


@pytest.mark.parametrize(("bits", "words"), [(8, "8 bits"), (10, "10 bits"), (12, "12 bits")])
def test_16_bit_files_are_scaled_by_the_range_that_training_images_use(
    folder, tmp_path, bits, words
):
    white = 2**bits - 1
    for seed in range(9):
        deep = np.round(grey(seed) / 255 * white).astype(np.uint16)
        write(folder, f"{seed}.png", deep)
        write(folder, f"{seed}.tif", deep[::-1], "TIFF")
    write(folder, "eight-bits.png", grey(10))
    artifact = ingest(folder, tmp_path / "out", channels=1)
    assert ingested.read(artifact.uri) == (ingested.Ingested(white, f"{words} in 16-bit files"))
    text = artifact.get_string_custom_property(findings.LEVELS)
    assert findings.lines({findings.LEVELS: text}) == [f"levels: {words} in 16-bit files"]
    stored = stored_pixels(artifact)
    assert np.array_equal(stored["eight-bits.png"], grey(10))
    for seed in range(9):
        assert np.array_equal(stored[f"{seed}.png"], grey(seed))
        assert np.array_equal(stored[f"{seed}.tif"], grey(seed)[::-1])


def test_white_overrides_the_range(folder, tmp_path):
    for seed in range(5):
        write(folder, f"{seed}.png", grey(seed).astype(np.uint16) * 16)
        write(folder, f"{seed}.tif", grey(seed).astype(np.float32) * 8, "TIFF")
    artifact = ingest(folder, tmp_path / "out", channels=1, white=2040.0)
    facts = ingested.read(artifact.uri)
    assert (facts.white, facts.levels) == (2040, "0 to 2040 in 16-bit files")
    stored = stored_pixels(artifact)
    for seed in range(5):
        expected = scale_table(2040)[grey(seed).astype(np.uint16) * 16]
        assert np.array_equal(stored[f"{seed}.png"], expected)
        assert np.array_equal(stored[f"{seed}.tif"], grey(seed))


def test_floats_without_a_level_are_refused_with_their_range(folder, tmp_path):
    for seed in range(5):
        write(folder, f"{seed}.tif", grey(seed).astype(np.float32) * 8, "TIFF")
    expected = "floating-point levels from 0 to 2040, expected 0 to 1.*--white LEVEL"
    with pytest.raises(DataError, match=expected):
        ingest(folder, tmp_path / "out")


def test_floats_are_0_to_1_beside_16_bit_files(folder, tmp_path):
    for seed in range(5):
        write(folder, f"{seed}.png", grey(seed).astype(np.uint16) * 16)
        write(folder, f"{seed}.tif", grey(seed).astype(np.float32) / 255, "TIFF")
    stored = stored_pixels(ingest(folder, tmp_path / "out", channels=1))
    assert all(np.array_equal(stored[f"{seed}.tif"], grey(seed)) for seed in range(5))


def test_the_slices_of_16_bit_images_are_those_of_their_stored_pixels(folder, tmp_path):
    """Ingest measures each image before it knows the range of all."""
    factors = (1, 4, 16)
    for seed in range(24):
        write(folder, f"{seed}.png", grey(seed).astype(np.uint16) * factors[seed % 3])
    by_source = slices_of(ingest(folder, tmp_path / "deep", channels=1))
    eight = tmp_path / "eight"
    for seed in range(24):
        levels = grey(seed).astype(np.uint16) * factors[seed % 3]
        write(eight, f"{seed}.png", scale_table(4095)[levels])
    expected = slices_of(ingest(eight, tmp_path / "out", channels=1))
    differing = [name for name, slices in by_source.items() if slices != expected[name]]
    # Rounding may move an image that is at the bound of a quartile.
    assert len(differing) <= 2


def test_white_is_that_of_16_bit_files_also_without_any(folder, tmp_path):
    for seed in range(5):
        write(folder, f"{seed}.tif", grey(seed).astype(np.float32) * 8, "TIFF")
    facts = ingested.read(ingest(folder, tmp_path / "out", white=2040.0).uri)
    assert (facts.white, facts.levels) == (2040, "")


def test_images_without_16_bits_have_no_range_and_constant_ones_are_noted(folder, tmp_path):
    for seed in range(5):
        write(folder, f"{seed}.png", grey(seed))
    write(folder, "black.png", np.zeros((20, 30), np.uint8))
    facts = ingested.read(ingest(folder, tmp_path / "out").uri)
    assert (facts.white, facts.levels) == (FULL_RANGE, "")
    (note,) = facts.notes
    assert note.startswith("1 image is of one colour, which any model")


def test_images_that_the_common_range_makes_constant_are_noted(folder, tmp_path):
    for seed in range(8):
        write(folder, f"{seed}.png", grey(seed).astype(np.uint16) * 16)
    for seed in range(3):
        write(folder, f"dark-{seed}.png", grey(seed).astype(np.uint16) // 32)
    artifact = ingest(folder, tmp_path / "out", channels=1)
    constant = [name for name, pixels in stored_pixels(artifact).items() if np.ptp(pixels) == 0]
    assert sorted(constant) == [f"dark-{seed}.png" for seed in range(3)]
    (note,) = ingested.read(artifact.uri).notes
    assert note.startswith("3 images are of one colour")


def test_examples_of_an_older_version_have_the_defaults(tmp_path):
    assert ingested.read(str(tmp_path)) == ingested.Ingested(FULL_RANGE, "", ())


def check(number: int, white: int, split: str | None = None, *notes: str) -> Check:
    return Check("", f"{number:064x}", 0, "", split, white=white, notes=notes)


def test_the_range_is_that_of_the_training_images_in_any_order_of_workers():
    by_number = {1: c.TRAIN, 2: c.TEST, 3: c.TRAIN, 4: None}
    checks = [check(1, 1023), check(2, FULL_RANGE), check(3, 4095), check(4, 16383)]

    def split_of(check: Check) -> str | None:
        return by_number[int(check.digest, 16)]

    for order in (checks, checks[::-1]):
        parts = [LevelsAccumulator() for _ in order]
        for part, each in zip(parts, order):
            part.add([each])
            parts[0].merge(part) if part is not parts[0] else None
        assert parts[0].white(split_of) == 4095
        assert parts[0].white(lambda each: None) == 0
        assert parts[0].white(lambda each: c.VAL) == FULL_RANGE


def test_notes_count_the_images_that_are_used():
    accumulator = LevelsAccumulator()
    accumulator.add([check(1, 0, None, CONSTANT), check(2, 0, c.TRAIN, CONSTANT)])
    assert accumulator.notes(has_fixed=True) == {CONSTANT: 1}
    assert accumulator.notes(has_fixed=False) == {CONSTANT: 2}
    assert "2 images are of one colour" in describe_notes({CONSTANT: 2})[0]
