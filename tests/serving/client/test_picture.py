import numpy as np
import pytest

from keras_ae.errors import DataError
from serving.client.cli import picture


def lightness(rgb):
    """CIELAB's L* of sRGB, by its definition."""
    coded = rgb / 255.0
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.where(y > (6 / 29) ** 3, np.cbrt(y), y / (3 * (6 / 29) ** 2) + 4 / 29) - 16


def test_equal_steps_of_the_colour_map_look_equal():
    colour_map = picture.colour_map()
    assert (colour_map.shape, colour_map.dtype) == ((256, 3), np.uint8)
    steps = lightness(colour_map[::15])
    np.testing.assert_allclose(np.diff(steps), 90 / 17, atol=0.6)


@pytest.mark.parametrize(
    "size",
    [(1, 1), (3, 2), (32, 32), (60, 2700), (2000, 30), (1, 20_000), (20_000, 1), (1200, 900)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_image_size_are_visible(size, channels):
    image = np.full((*size, channels), 90, np.uint8)
    composed = picture.compare(image, image + np.uint8(2), "name.png\nscores")
    assert 200 < composed.width < 3400
    assert 200 < composed.height < 3400


def test_the_three_panels_and_the_scale():
    original = np.full((64, 64, 3), (200, 100, 50), np.uint8)
    reconstruction = original.copy()
    reconstruction[:, 32:] += np.uint8(16)
    pixels = np.asarray(picture.compare(original, reconstruction, "name"))
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3)}
    # The original, the different half of the reconstruction, no error, and the largest error.
    low, high = picture.colour_map()[[0, -1]]
    assert {(200, 100, 50), (216, 116, 66), tuple(low), tuple(high)} <= colours
    bright_count = (pixels == high).all(-1).sum()
    assert bright_count >= 4 * 32 * 4 * 64


def test_an_error_of_zero_is_the_darkest_colour():
    image = np.full((64, 64, 3), 90, np.uint8)
    pixels = np.asarray(picture.compare(image, image, "name"))
    assert (pixels == picture.colour_map()[0]).all(-1).sum() >= 256 * 256


def test_shapes_that_differ_are_refused():
    with pytest.raises(DataError, match=r"shape \[4, 4, 3\]; got \[4, 4, 1\]"):
        picture.compare(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 1), np.uint8), "name")
