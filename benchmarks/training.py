"""Tiles per second of the project's training, of a bare TensorFlow loop and of Keras's `fit`.

    python -m benchmarks.training --preset medium

All three train the same model on tiles of the sample photographs, in turns, in one process. The
project's training crops and flips anew in each epoch, clips gradients and keeps a moving average;
the other two go over tiles that lie in memory. The bare loop is measured with XLA and without.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from keras_ae import linear, presets
from keras_ae.datasets.sample_photos import SPLITS, path_of
from keras_ae.models import ConvAutoencoder
from keras_ae.tiles import Tiles
from keras_ae.training import Ladder


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=presets.PRESETS, default=presets.DEFAULT)
    parser.add_argument("--epochs", type=int, default=40, help="in each turn")
    parser.add_argument("--turns", type=int, default=5, help="of each kind; the median counts")
    arguments = parser.parse_args()
    photographs = [np.asarray(Image.open(path_of(name)).convert("RGB")) for name in SPLITS["train"]]
    tiles = Tiles(photographs, stride=presets.STRIDE)
    kinds = {
        "keras-ae": project(make_model(arguments.preset, photographs), tiles),
        "bare loop, XLA": bare_loop(make_model(arguments.preset, photographs), tiles, xla=True),
        "bare loop": bare_loop(make_model(arguments.preset, photographs), tiles, xla=False),
        "Keras fit": keras_fit(make_model(arguments.preset, photographs), tiles),
    }
    speeds: dict[str, list[float]] = {name: [] for name in kinds}
    for train in kinds.values():
        train(2)
    for _ in range(arguments.turns):
        for name, train in kinds.items():
            began = time.perf_counter()
            train(arguments.epochs)
            speeds[name].append(len(tiles) * arguments.epochs / (time.perf_counter() - began))
    print(
        f"{arguments.preset}, {len(tiles)} tiles of {tiles.size}x{tiles.size} an epoch in "
        f"{tiles.steps} steps, {arguments.turns} turns of {arguments.epochs} epochs\n"
        f"{machine()}\n\n{'':<16} {'tiles/s':>8} {'lowest':>8} {'highest':>8} {'keras-ae is':>12}"
    )
    ours = statistics.median(speeds["keras-ae"])
    for name, values in speeds.items():
        median = statistics.median(values)
        print(
            f"{name:<16} {median:>8,.0f} {min(values):>8,.0f} {max(values):>8,.0f} "
            f"{ours / median:>11.2f}x"
        )


def make_model(preset: str, photographs: list[np.ndarray]) -> ConvAutoencoder:
    """A model as the pipeline starts it."""
    model = ConvAutoencoder(preset)
    if presets.get(preset).architecture == "linear-residual":
        moments = linear.patch_moments(photographs, presets.STRIDE)
        linear.set_linear_path(model, linear.fit(moments, presets.LATENT_CHANNELS))
    return model


def project(model: ConvAutoencoder, tiles: Tiles) -> Callable[[int], object]:
    """The training of this project."""
    ladder = Ladder(model, tiles)
    return lambda epochs: ladder.climb(ladder.epoch + epochs)


def bare_loop(model: ConvAutoencoder, tiles: Tiles, *, xla: bool) -> Callable[[int], object]:
    """What one would write by hand: a compiled step over batches in memory, and nothing else."""
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)
    batches = [tf.constant(batch / np.float32(255)) for batch in tiles.epoch(0)]

    @tf.function(jit_compile=xla)
    def step(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(images, training=True) - images))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    def train(epochs: int) -> float:
        loss = tf.zeros(())
        for _ in range(epochs):
            for batch in batches:
                loss = step(batch)
        return float(loss)

    return train


def keras_fit(model: ConvAutoencoder, tiles: Tiles) -> Callable[[int], object]:
    """`fit` with its defaults: Adam, batches of 32, shuffled."""
    images = np.concatenate(list(tiles.epoch(0))) / np.float32(255)
    model.compile(optimizer="adam", loss="mse")
    return lambda epochs: model.fit(images, images, epochs=epochs, verbose=0)


def machine() -> str:
    """The machine and the releases that the figures belong to."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    devices = [device.name for device in tf.config.list_logical_devices("GPU")] or "no GPU"
    return (
        f"{len(names)} cores of {names[0] if names else platform.processor()}, {devices}, "
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    )


if __name__ == "__main__":
    main()
