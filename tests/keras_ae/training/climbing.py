"""Training in two processes, as a module with `begin` or `go_on`, a folder and kinds."""

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


def begin(place: Path, kind: str) -> None:
    """Leaves `whole.npz` after four epochs, and `half.npz` amid one of them."""
    ladder = make_ladder(kind)
    start = ladder.arrays()
    ladder.train(4)
    ladder.save(place / "whole.npz")
    ladder.assign(start)
    asked = itertools.count()
    try:
        ladder.train(4, checkpoint=place / "half.npz", stopping=lambda: next(asked) >= 7)
    except StoppedError:
        assert 0 < ladder.epoch < 4
        assert 0 < ladder.position.batches < 6
    else:
        raise AssertionError("it was not stopped")


def go_on(place: Path, kind: str) -> None:
    """From `half.npz` to `rest.npz`."""
    ladder = make_ladder(kind)
    ladder.restore(place / "half.npz")
    ladder.train(4)
    ladder.save(place / "rest.npz")


if __name__ == "__main__":
    step, folder, *kinds = sys.argv[1:]
    for kind in kinds:
        {"begin": begin, "go_on": go_on}[step](Path(folder) / kind, kind)
