"""Tiles per second of the project's training, compared with training loops written by hand.

    python -m benchmarks.training --preset medium

All train the same layers on tiles of the sample photographs, alternately in one process: this
project (which cuts new tiles in each epoch, clips gradients and keeps EMA weights); Keras's `fit`;
a bare TensorFlow loop with XLA and without; and, where PyTorch is installed
(`pip install torch==2.13.0`), a bare PyTorch loop, eager and compiled. All but the first use the
same tiles in every epoch, which are kept in memory. The peak is that of a float32 matrix product.
"""

import argparse
import resource
import statistics
from collections.abc import Callable
from importlib.util import find_spec

import keras
import numpy as np
import tensorflow as tf

from benchmarks import data
from benchmarks.machine import machine
from benchmarks.models import fit_pca, initialize, keras_fit
from benchmarks.timing import measure_rate, measure_seconds
from keras_ae import presets
from keras_ae.datasets.tiles import Tiles
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.training.ladder import Ladder


def main() -> None:
    """Parses the command line, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=presets.PRESETS, default=presets.DEFAULT)
    parser.add_argument("--epochs", type=int, default=40, help="epochs of a measurement")
    parser.add_argument(
        "--repeats", type=int, default=5, help="measurements of each kind; the median is reported"
    )
    arguments = parser.parse_args()
    photographs = data.load("sample")["train"]
    tiles = Tiles(photographs, stride=presets.STRIDE)
    pca = fit_pca(photographs)
    model = initialize(arguments.preset, pca)
    loops = {
        "keras-ae": project_loop(model, tiles),
        "bare loop, XLA": bare_loop(initialize(arguments.preset, pca), tiles, xla=True),
        "bare loop": bare_loop(initialize(arguments.preset, pca), tiles, xla=False),
        "Keras fit": keras_fit(initialize(arguments.preset, pca), tiles),
        **pytorch_loops(arguments.preset, tiles),
    }
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for train in loops.values():
        train(2)
    peak = measure_peak()
    for _ in range(arguments.repeats):
        for name, train in loops.items():
            seconds = measure_seconds(lambda train=train: train(arguments.epochs))
            speeds[name].append(len(tiles) * arguments.epochs / seconds)
    # A backward pass costs two forward ones.
    flops = 3 * model.flops_per_pixel * tiles.size**2
    print(
        f"{arguments.preset}: {model.count_params():,} parameters, "
        f"{model.flops_per_pixel:,.0f} FLOPs per pixel\n"
        f"{len(tiles)} tiles of {tiles.size}x{tiles.size} an epoch in "
        f"{len(tiles.batch_sizes)} steps, {arguments.repeats} times {arguments.epochs} epochs\n"
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


def project_loop(model: ConvAutoencoder, tiles: Tiles) -> Callable[[int], object]:
    """The training of this project."""
    ladder = Ladder(model, tiles)
    return lambda epochs: ladder.train(ladder.epoch + epochs)


def bare_loop(model: ConvAutoencoder, tiles: Tiles, *, xla: bool) -> Callable[[int], object]:
    """A training loop written by hand: a compiled step over batches in memory, nothing else."""
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


def pytorch_loops(preset: str, tiles: Tiles) -> dict[str, Callable[[int], object]]:
    """The PyTorch loops by their names, where PyTorch is installed."""
    if not find_spec("torch"):
        return {}
    from benchmarks.in_pytorch import training_loop

    return {
        "PyTorch": training_loop(preset, tiles, compiled=False),
        "PyTorch, compiled": training_loop(preset, tiles, compiled=True),
    }


def measure_peak(size: int = 1536, repeats: int = 20) -> float:
    """FLOP/s of a float32 matrix product by the fastest of NumPy, TensorFlow and PyTorch."""
    array = np.ones((size, size), np.float32)
    tensor = tf.constant(array)
    products: list[Callable[[], object]] = [lambda: array @ array]
    for xla in (False, True):
        # The tensor is an argument because the product of a constant would be folded.
        product = tf.function(lambda x: tf.matmul(x, x)[0, 0], jit_compile=xla)
        products.append(lambda product=product: product(tensor).numpy())
    if find_spec("torch"):
        import torch

        torch_tensor = torch.from_numpy(array)
        products.append(lambda: torch_tensor @ torch_tensor)
    return max(measure_rate(product, 2 * size**3, repeats) for product in products)


if __name__ == "__main__":
    main()
