"""Checks of training on JAX, to be run as a module with a folder in a process of its own."""

import itertools
import sys
from pathlib import Path

import keras
import numpy as np

from keras_ae.datasets.tiles import Tiles
from keras_ae.errors import StoppedError
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.training.backends import jax as backend
from keras_ae.training.ladder import Ladder
from tests.tiny import TINY

# An epoch on the device then takes two calls, the first one with batches of two sizes.
backend.PIXELS_PER_CALL = 2 * 6 * 24 * 24


class MemoryHungryAutoencoder(ConvAutoencoder):
    """Runs out of memory with more than four tiles."""

    def call(self, images, training=False):
        outputs = super().call(images, training=training)
        if images.shape[0] is not None and images.shape[0] > 4:
            huge = outputs[0, 0, 0, 0] * keras.ops.arange(2**42, dtype="float32")
            outputs += keras.ops.sort(huge)[0]
        return outputs


def make_tiles() -> Tiles:
    rng = np.random.default_rng(0)
    sizes = ((40, 24, 3), (24, 31, 3), (90, 33, 3))
    images = [rng.integers(0, 256, size, np.uint8) for size in sizes]
    tiles = Tiles(images, stride=8, crops=7, batch_size=6, seed=3)
    assert len(set(tiles.batch_sizes)) == 2
    return tiles


def make_ladder(tiles: Tiles, on_device: bool, model_class=ConvAutoencoder) -> Ladder:
    backend._fits = lambda tiles: on_device
    ladder = Ladder(model_class(TINY, seed=3), tiles)
    assert ladder.placement == ("on the device" if on_device else "in memory")
    return ladder


def check_tile_indices(tiles: Tiles) -> None:
    pixels = np.concatenate([image.reshape(-1, 3) for image in tiles.images])
    for epoch in (0, 1):
        indices = backend.tile_indices(tiles, epoch)
        gathered = backend.gather_tiles(keras.ops.convert_to_tensor(pixels), indices, tiles.size)
        expected = np.concatenate(list(tiles.epoch(epoch)))
        np.testing.assert_array_equal(np.asarray(gathered), expected)


def check_interruption(ladder: Ladder, checkpoint: Path) -> dict[str, np.ndarray]:
    """Stops within an epoch and resumes; returns the state after two epochs."""
    initial = ladder.to_arrays()
    ladder.train(2)
    uninterrupted = ladder.to_arrays()
    ladder.assign(initial)
    calls = itertools.count()
    try:
        ladder.train(2, checkpoint=checkpoint, should_stop=lambda: next(calls) > 1)
    except StoppedError:
        assert (ladder.epoch, ladder.position.batches_done) == (1, 2)
    else:
        raise AssertionError("training was not stopped")
    ladder.assign(initial)
    ladder.train(2, checkpoint=checkpoint)
    for name, array in ladder.to_arrays().items():
        if name != "seconds":
            np.testing.assert_array_equal(array, uninterrupted[name], err_msg=name)
    return uninterrupted


def check_out_of_memory(image: np.ndarray) -> None:
    # Batches of one size only: each size is compiled.
    tiles = Tiles([image], stride=8, size=24, crops=6, batch_size=6, seed=3)
    reference = make_ladder(tiles, True)
    reference.train(2)
    for on_device in (False, True):
        lines = []
        ladder = make_ladder(tiles, on_device, MemoryHungryAutoencoder)
        ladder.train(2, say=lines.append)
        (line,) = lines
        assert (
            line == "out of memory with 6 tiles at a time; continuing with 2 x 3, same batch size"
        )
        np.testing.assert_allclose(ladder.losses, reference.losses, rtol=1e-5)


def check_error(ladder: Ladder) -> None:
    """After an error of the data the model keeps what it learned before."""
    before = ladder.to_arrays()
    batches = list(ladder.tiles.epoch(0))

    def failing_epoch(epoch, first):
        yield batches[0]
        raise OSError("images are missing")

    ladder.tiles.epoch = failing_epoch
    try:
        ladder.train(ladder.epoch + 1)
    except OSError:
        after = ladder.to_arrays()
    else:
        raise AssertionError("the error was swallowed")
    weights = [name for name in before if "model" in name]
    assert any(not np.array_equal(before[name], after[name]) for name in weights)
    assert all(np.isfinite(after[name]).all() for name in weights)


if __name__ == "__main__":
    tiles = make_tiles()
    check_tile_indices(tiles)
    ladders = [make_ladder(tiles, on_device) for on_device in (False, True)]
    expected = check_interruption(ladders[True], Path(sys.argv[1]) / "state.npz")
    ladders[False].train(2)
    np.testing.assert_allclose(ladders[False].losses, expected["losses"], rtol=1e-4)
    check_out_of_memory(tiles.images[0])
    check_error(ladders[False])
