"""Training on JAX: as a module with a folder it fails if that is not as it should be."""

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

# An epoch on the device in two calls, the first one of batches of two sizes.
backend.PIXELS_IN_A_CALL = 2 * 6 * 24 * 24


class Hungry(ConvAutoencoder):
    def call(self, images, training=False):
        outputs = super().call(images, training=training)
        if images.shape[0] is not None and images.shape[0] > 4:
            many = outputs[0, 0, 0, 0] * keras.ops.arange(2**42, dtype="float32")
            outputs += keras.ops.sort(many)[0]
        return outputs


def make_tiles() -> Tiles:
    rng = np.random.default_rng(0)
    sizes = ((40, 24, 3), (24, 31, 3), (90, 33, 3))
    images = [rng.integers(0, 256, size, np.uint8) for size in sizes]
    tiles = Tiles(images, stride=8, crops=7, batch_size=6, seed=3)
    assert len(set(tiles.batch_sizes)) == 2
    return tiles


def make_ladder(tiles: Tiles, on_device: bool, kind=ConvAutoencoder) -> Ladder:
    backend._fits = lambda tiles: on_device
    ladder = Ladder(kind(TINY, seed=3), tiles)
    assert ladder.placement == ("on the device" if on_device else "in memory")
    return ladder


def check_cuts(tiles: Tiles) -> None:
    pixels = np.concatenate([image.reshape(-1, 3) for image in tiles.images])
    for epoch in (0, 1):
        cuts = backend.cuts(tiles, epoch)
        cut = backend.cut(keras.ops.convert_to_tensor(pixels), cuts, tiles.size)
        np.testing.assert_array_equal(np.asarray(cut), np.concatenate(list(tiles.epoch(epoch))))


def check_interruption(ladder: Ladder, state: Path) -> dict[str, np.ndarray]:
    """Stops amid an epoch and goes on; gives the state after two epochs."""
    start = ladder.arrays()
    ladder.train(2)
    whole = ladder.arrays()
    ladder.assign(start)
    asked = itertools.count()
    try:
        ladder.train(2, checkpoint=state, stopping=lambda: next(asked) > 1)
    except StoppedError:
        assert (ladder.epoch, ladder.position.batches) == (1, 2)
    else:
        raise AssertionError("it was not stopped")
    ladder.assign(start)
    ladder.train(2, checkpoint=state)
    for name, array in ladder.arrays().items():
        if name != "seconds":
            np.testing.assert_array_equal(array, whole[name], err_msg=name)
    return whole


def check_memory(ladder: Ladder, losses: np.ndarray) -> None:
    lines = []
    ladder.train(2, say=lines.append)
    assert lines == ["out of memory with 6 tiles at a time; goes on with 2 x 3, same batch"], lines
    np.testing.assert_allclose(ladder.losses, losses, rtol=1e-5)


def check_error(ladder: Ladder) -> None:
    """What was trained before the images were gone is kept."""
    before = ladder.arrays()
    batches = list(ladder.tiles.epoch(0))

    def broken(epoch, first):
        yield batches[0]
        raise OSError("gone")

    ladder.tiles.epoch = broken
    try:
        ladder.train(ladder.epoch + 1)
    except OSError:
        after = ladder.arrays()
    else:
        raise AssertionError("the images were not missed")
    models = [name for name in before if "model" in name]
    assert any(not np.array_equal(before[name], after[name]) for name in models)
    assert all(np.isfinite(after[name]).all() for name in models)


if __name__ == "__main__":
    tiles = make_tiles()
    check_cuts(tiles)
    ladders = [make_ladder(tiles, on_device) for on_device in (False, True)]
    whole = check_interruption(ladders[True], Path(sys.argv[1]) / "state.npz")
    ladders[False].train(2)
    np.testing.assert_allclose(ladders[False].losses, whole["losses"], rtol=1e-4)
    for on_device in (False, True):
        check_memory(make_ladder(tiles, on_device, Hungry), whole["losses"])
    check_error(ladders[False])
