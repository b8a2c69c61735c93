"""Training that is interrupted in one process and resumed in another.

Run as a module with `interrupt` or `resume`, a folder, and kinds of ladder ("compiled", "plain").
"""

import dataclasses
import itertools
import sys
from pathlib import Path

import numpy as np

from keras_ae.datasets.tiles import Tiles
from keras_ae.errors import StoppedError
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.training.ladder import Ladder
from tests.tiny import TINY


def make_ladder(kind: str) -> Ladder:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), np.uint8)
    images = [np.kron(image, np.ones((8, 8, 1), np.uint8)) for image in coarse]
    model = ConvAutoencoder(dataclasses.replace(TINY, jit_compile=kind == "compiled"), seed=3)
    if kind == "compiled":
        linear.set_linear_path(model, linear.fit(linear.patch_moments(images, 8), 8))
    return Ladder(model, Tiles(images, stride=8, batch_size=8, seed=3))


def interrupt(folder: Path, kind: str) -> None:
    """Writes `uninterrupted.npz` after four epochs, and `interrupted.npz` within one of them."""
    ladder = make_ladder(kind)
    initial = ladder.to_arrays()
    ladder.train(4)
    ladder.save(folder / "uninterrupted.npz")
    ladder.assign(initial)
    calls = itertools.count()
    checkpoint = folder / "interrupted.npz"
    try:
        ladder.train(4, checkpoint=checkpoint, should_stop=lambda: next(calls) >= 7)
    except StoppedError:
        assert 0 < ladder.epoch < 4
        assert 0 < ladder.position.batches_done < 6
    else:
        raise AssertionError("training was not stopped")


def resume(folder: Path, kind: str) -> None:
    """Trains from `interrupted.npz` to the fourth epoch and writes `resumed.npz`."""
    ladder = make_ladder(kind)
    ladder.restore(folder / "interrupted.npz")
    ladder.train(4)
    ladder.save(folder / "resumed.npz")


if __name__ == "__main__":
    step, folder, *kinds = sys.argv[1:]
    for kind in kinds:
        {"interrupt": interrupt, "resume": resume}[step](Path(folder) / kind, kind)
