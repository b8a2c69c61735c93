import numpy as np
import pytest
from PIL import Image

from keras_ae.datasets.images import quartiles


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strip", [7, 1000, 1_000_000])
def test_measures_in_strips_equal_those_of_the_whole_grey_image(
    photographs, monkeypatch, channels, strip
):
    monkeypatch.setattr(quartiles, "_STRIP_PIXELS", strip)
    pixels = photographs[0][:37, :23, :channels]
    grey = np.asarray(Image.fromarray(np.squeeze(pixels)).convert("L")).astype(int)
    differences = np.concatenate([np.diff(grey, axis=0).ravel(), np.diff(grey, axis=1).ravel()])
    size, brightness, detail = quartiles.measure(pixels)
    assert size == 37 * 23
    assert brightness == pytest.approx(grey.mean(), rel=1e-12)
    assert detail == pytest.approx(np.abs(differences).mean(), rel=1e-12)


def test_measures_of_black_and_of_a_chessboard_are_the_extremes():
    black = np.zeros((4, 6, 3), np.uint8)
    board = np.indices((4, 6)).sum(axis=0).astype(np.uint8)[..., None] % 2 * 255
    assert quartiles.measure(black) == (24, 0.0, 0.0)
    assert quartiles.measure(board) == (24, 127.5, 255.0)
    assert quartiles.measure(np.full((1, 1, 1), 9, np.uint8)) == (1, 9.0, 0.0)


def names_of(sizes) -> list[str]:
    measures = [(size, 0.0, 0.0) for size in sizes]
    bounds = quartiles.compute_bounds(measures)
    return [quartiles.quartile_names(image, bounds)[0] for image in measures]


def test_each_quartile_has_a_quarter_of_different_images():
    names = names_of(range(12))
    assert names == [name for name in quartiles.QUARTILES["size"] for _ in range(3)]
    assert names_of(range(11, -1, -1)) == names[::-1]


def test_equal_values_are_in_the_same_quartile():
    assert set(names_of([5] * 9)) == {"1 smallest"}
    assert names_of([4, 4, 4, 1]) == ["2", "2", "2", "1 smallest"]
    assert names_of([1, 2, 2, 2, 2, 3]) == ["1 smallest"] * 5 + ["4 largest"]
