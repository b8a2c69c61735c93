"""Tiles per second of the project's training, beside what one would write oneself.

    python -m benchmarks.training --preset medium

All train the same layers on tiles of the sample photographs, in turns, in one process: this project
(which cuts tiles anew in each epoch, clips gradients and keeps a moving average); Keras's
`fit`; a bare TensorFlow loop with XLA and without; and, where PyTorch is installed
(`pip install torch==2.13.0`), a bare PyTorch loop, eager and compiled. All but the first go over
tiles that lie in memory. The share of the peak is that of the largest float32 matrix product.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec

import keras
import numpy as np
import tensorflow as tf

from benchmarks import data
from benchmarks.machine import machine
from keras_ae import presets
from keras_ae.datasets.tiles import Tiles
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.training.ladder import Ladder


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=presets.PRESETS, default=presets.DEFAULT)
    parser.add_argument("--epochs", type=int, default=40, help="in each turn")
    parser.add_argument("--turns", type=int, default=5, help="of each kind; the median counts")
    arguments = parser.parse_args()
    photographs = data.load("sample")["train"]
    tiles = Tiles(photographs, stride=presets.STRIDE)
    model = make_model(arguments.preset, photographs)
    kinds = {
        "keras-ae": project(model, tiles),
        "bare loop, XLA": bare_loop(make_model(arguments.preset, photographs), tiles, xla=True),
        "bare loop": bare_loop(make_model(arguments.preset, photographs), tiles, xla=False),
        "Keras fit": keras_fit(make_model(arguments.preset, photographs), tiles),
        **in_pytorch(arguments.preset, tiles),
    }
    speeds: dict[str, list[float]] = {name: [] for name in kinds}
    for train in kinds.values():
        train(2)
    peak = matmul_peak()
    for _ in range(arguments.turns):
        for name, train in kinds.items():
            began = time.perf_counter()
            train(arguments.epochs)
            speeds[name].append(len(tiles) * arguments.epochs / (time.perf_counter() - began))
    # A backward pass costs two forward ones.
    flops = 3 * model.flops_per_pixel * tiles.size**2
    print(
        f"{arguments.preset}: {model.count_params():,} parameters, "
        f"{model.flops_per_pixel:,.0f} FLOPs per pixel\n"
        f"{len(tiles)} tiles of {tiles.size}x{tiles.size} an epoch in "
        f"{len(tiles.batch_sizes)} steps, {arguments.turns} turns of {arguments.epochs} epochs\n"
        f"{machine()}\nfloat32 matrix product: {peak / 1e9:,.0f} GFLOP/s\n\n"
        f"{'':<18} {'tiles/s':>8} {'lowest':>8} {'highest':>8} {'of the peak':>12} "
        f"{'keras-ae is':>12}"
    )
    ours = statistics.median(speeds["keras-ae"])
    for name, values in speeds.items():
        median = statistics.median(values)
        print(
            f"{name:<18} {median:>8,.0f} {min(values):>8,.0f} {max(values):>8,.0f} "
            f"{median * flops / peak:>12.0%} {ours / median:>11.2f}x"
        )
    if not find_spec("torch"):
        print("PyTorch: not installed")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


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
    return lambda epochs: ladder.train(ladder.epoch + epochs)


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


def in_pytorch(preset: str, tiles: Tiles) -> dict[str, Callable[[int], object]]:
    """PyTorch's loops, if it is there."""
    if not find_spec("torch"):
        return {}
    from benchmarks import in_pytorch

    batches = [batch / np.float32(255) for batch in tiles.epoch(0)]

    def loop(compiled: bool) -> Callable[[int], object]:
        model = in_pytorch.build(presets.get(preset), presets.STRIDE, presets.LATENT_CHANNELS)
        return in_pytorch.loop(model, batches, compiled=compiled)

    return {"PyTorch": loop(False), "PyTorch, compiled": loop(True)}


def matmul_peak(size: int = 1536, repeats: int = 20) -> float:
    """FLOP/s of a float32 matrix product by the fastest of NumPy, TensorFlow and PyTorch."""
    a = np.ones((size, size), np.float32)
    products: list[Callable[[], object]] = [lambda: a @ a]
    for xla in (False, True):
        # As an argument: a constant would be multiplied once and for all.
        product = tf.function(lambda x: tf.matmul(x, x)[0, 0], jit_compile=xla)
        held = tf.constant(a)
        products.append(lambda product=product, held=held: product(held).numpy())
    if find_spec("torch"):
        import torch

        b = torch.from_numpy(a)
        products.append(lambda: b @ b)
    best = 0.0
    for product in products:
        product()
        for _ in range(repeats):
            began = time.perf_counter()
            product()
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


if __name__ == "__main__":
    main()
