import numpy as np
import pytest

from keras_ae.datasets.tiles import Tiles
from keras_ae.errors import DataError
from keras_ae.models.layers import to_float, to_uint8


def all_tiles(tiles: Tiles, epoch: int) -> np.ndarray:
    return np.concatenate(list(tiles.epoch(epoch)))


def test_an_epoch_depends_on_seed_and_epoch_alone(photographs):
    first = Tiles(photographs, stride=8, seed=1)
    second = Tiles(photographs, stride=8, seed=1)
    all_tiles(first, 0)
    assert np.array_equal(all_tiles(first, 5), all_tiles(second, 5))
    assert not np.array_equal(all_tiles(first, 5), all_tiles(first, 6))
    other = Tiles(photographs, stride=8, seed=2)
    assert not np.array_equal(all_tiles(first, 5), all_tiles(other, 5))


def test_an_epoch_can_start_at_any_batch(photographs):
    tiles = Tiles(photographs, stride=8, crops=7, batch_size=5)
    batches = list(tiles.epoch(3))
    assert len(batches) > 3
    for first in range(len(batches) + 1):
        remaining = list(tiles.epoch(3, first))
        assert len(remaining) == len(batches) - first
        assert all(np.array_equal(a, b) for a, b in zip(remaining, batches[first:]))


def test_larger_images_give_several_crops_and_tile_sized_ones_one():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (s, s, 1), np.uint8) for s in (64, 64, 200)]
    tiles = Tiles(images, stride=8, crops=5)
    assert len(tiles) == 1 + 1 + 5
    batch = all_tiles(tiles, 0)
    assert batch.shape == (7, 64, 64, 1)
    assert batch.dtype == np.uint8
    flips = [images[0], images[0][::-1], images[0][:, ::-1], images[0][::-1, ::-1]]
    flips += [flip.swapaxes(0, 1) for flip in flips]
    assert sum(any(np.array_equal(tile, flip) for flip in flips) for tile in batch) == 1


def test_tiles_are_parts_of_their_images():
    image = np.arange(100 * 100, dtype=np.int64).reshape(100, 100, 1) % 251
    tiles = all_tiles(Tiles([image.astype(np.uint8)] * 2, stride=8), 0)
    windows = np.lib.stride_tricks.sliding_window_view(image[..., 0], (1, 64)).reshape(-1, 64)
    rows = {row.astype(np.uint8).tobytes() for row in windows}
    for tile in tiles[..., 0]:
        lines = [tile[0], tile[0][::-1], tile[:, 0], tile[:, 0][::-1]]
        assert any(line.tobytes() in rows for line in lines)


def test_no_tile_is_dropped_and_batches_are_even():
    images = [np.zeros((64, 64, 3), np.uint8)] * 80
    sizes = [len(batch) for batch in Tiles(images, stride=8, batch_size=32).epoch(0)]
    assert sizes == [20] * 4
    sizes = [len(batch) for batch in Tiles(images[:3], stride=8, batch_size=32).epoch(0)]
    assert sizes == [3]
    images = [np.zeros((64, 64, 3), np.uint8)] * 37
    sizes = [len(batch) for batch in Tiles(images, stride=8, batch_size=32).epoch(0)]
    assert sizes == [19, 18]


def test_small_images_give_small_tiles_and_short_sides_are_padded():
    images = [np.full((32, 32, 3), 9, np.uint8)] * 3 + [np.full((20, 50, 3), 9, np.uint8)]
    tiles = Tiles(images, stride=8)
    assert tiles.size == 32
    assert (all_tiles(tiles, 0) == 9).all()
    tiny = Tiles([np.full((1, 1, 3), 9, np.uint8)], stride=8)
    assert all_tiles(tiny, 0).shape == (1, 8, 8, 3)


def test_channels_of_rgb_tiles_are_shuffled_in_all_orders():
    image = np.zeros((64, 64, 3), np.uint8) + np.array([1, 2, 3], np.uint8)
    colours = {tuple(tile[0, 0]) for tile in all_tiles(Tiles([image] * 200, stride=8), 0)}
    assert len(colours) == 6
    assert all(sorted(colour) == [1, 2, 3] for colour in colours)


def test_scaling_there_and_back_is_exact():
    pixels = np.arange(256, dtype=np.uint8)
    scaled = np.asarray(to_float(pixels))
    assert scaled.min() == 0
    assert scaled.max() == 1
    assert np.array_equal(np.asarray(to_uint8(scaled)), pixels)
    assert np.array_equal(np.asarray(to_uint8(np.array([-1.0, 2.0], "float32"))), [0, 255])


@pytest.mark.parametrize(
    ("images", "text"),
    [
        ([], "at least one image"),
        ([np.zeros((8, 8, 3))], r"uint8 \[H, W, C\].*float64"),
        ([np.zeros((8, 8), np.uint8)], r"got uint8 \[8, 8\]"),
    ],
)
def test_wrong_images_are_refused(images, text):
    with pytest.raises(DataError, match=text):
        Tiles(images, stride=8)
