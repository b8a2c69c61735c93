"""The whole ladder on one accelerator with JAX, beside Keras's `fit` and PyTorch on the same one.

    KERAS_BACKEND=jax python -m benchmarks.gpu --data cifar10.npy --preset large

Prints held-out quality and time up the ladder; images/s of this project, of Keras's `fit` on JAX
and, where PyTorch is installed, of a compiled PyTorch loop, all on batches of one size; and what
share of the device's largest bfloat16 matrix product and of its memory bandwidth (that of a copy)
the project's steps reach. Neither TensorFlow nor the network is needed.
"""

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import keras
import numpy as np

from benchmarks import data
from benchmarks.machine import machine
from benchmarks.quality import floor_psnr, measure
from keras_ae import budgets, presets
from keras_ae.datasets.tiles import Tiles
from keras_ae.models import linear
from keras_ae.models.autoencoder import PRECISIONS, ConvAutoencoder
from keras_ae.training.ladder import Ladder, begin


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder, archive or .npy of small images")
    parser.add_argument("--limit", type=int, help="of images")
    parser.add_argument("--preset", choices=presets.PRESETS, default="large")
    parser.add_argument("--budgets", type=budgets.parse, default=budgets.DEFAULT)
    parser.add_argument("--precision", choices=PRECISIONS, default="bfloat16")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=5, help="of each of the others")
    arguments = parser.parse_args()
    if keras.backend.backend() != "jax":
        parser.error(f"set KERAS_BACKEND=jax; got {keras.backend.backend()}")
    images = data.load(arguments.data, arguments.limit)
    tiles = Tiles(images["train"], stride=presets.STRIDE, batch_size=arguments.batch_size)
    floor = linear.fit(
        linear.patch_moments(images["train"], presets.STRIDE), presets.LATENT_CHANNELS
    )
    ladder = begin(arguments.preset, tiles, floor, precision=arguments.precision)
    print(
        f"{arguments.preset}, {arguments.precision}, {ladder.model.count_params():,} parameters, "
        f"{len(tiles):,} tiles of {tiles.size}x{tiles.size}, batches of {tiles.batch_sizes[0]}, "
        f"{ladder.placement}\n{machine()}\n",
        flush=True,
    )
    train_and_report(ladder, arguments.budgets, images, floor)
    speed = ladder.train(ladder.epoch + arguments.epochs).tiles_per_second
    others = {"Keras fit": keras_fit(arguments, tiles), **in_pytorch(arguments, tiles)}
    print(f"\n{'':<18} {'images/s':>10} {'keras-ae is':>12}\n{'keras-ae':<18} {speed:>10,.0f}")
    for name, train in others.items():
        theirs = speed_of(train, len(tiles), arguments.epochs)
        print(f"{name:<18} {theirs:>10,.0f} {speed / theirs:>11.2f}x", flush=True)
    shares(ladder, speed)


def train_and_report(ladder: Ladder, ladder_budgets: tuple[int, ...], images: dict, floor) -> None:
    """Trains up the ladder and prints what comes of it."""
    lowest = floor_psnr(floor, images)
    print(
        f"{'epochs':>8} {'seconds':>8} {'images/s':>10} {'val':>7} {'test':>7} {'over floor':>11}"
    )
    print(f"{'floor':>8} {'':>8} {'':>10} {lowest['val']:>7.2f} {lowest['test']:>7.2f}")
    for budget in ladder_budgets:
        speed = ladder.train(budget).tiles_per_second
        found = measure(ladder, images, averaged=True)
        print(
            f"{budget:>8} {ladder.seconds:>8.1f} {speed:>10,.0f} {found['val']:>7.2f} "
            f"{found['test']:>7.2f} {found['test'] - lowest['test']:>+11.2f}",
            flush=True,
        )


def speed_of(train: Callable[[int], object], images: int, epochs: int) -> float:
    """Images per second, after an epoch that compiles."""
    train(1)
    began = time.perf_counter()
    train(epochs)
    return images * epochs / (time.perf_counter() - began)


def keras_fit(arguments: argparse.Namespace, tiles: Tiles) -> Callable[[int], object]:
    """`fit` with its defaults on images in memory."""
    model = ConvAutoencoder(arguments.preset, precision=arguments.precision)
    model.compile(optimizer="adam", loss="mse")
    images = np.concatenate(list(tiles.epoch(0))) / np.float32(255)
    size = tiles.batch_sizes[0]
    return lambda epochs: model.fit(images, images, batch_size=size, epochs=epochs, verbose=0)


def in_pytorch(arguments: argparse.Namespace, tiles: Tiles) -> dict[str, Callable[[int], object]]:
    """A compiled PyTorch loop on batches that lie on the device, if PyTorch is there."""
    if not find_spec("torch"):
        print("PyTorch: not installed")
        return {}
    from benchmarks import in_pytorch

    batches = [batch / np.float32(255) for batch in tiles.epoch(0)]
    preset = presets.get(arguments.preset)
    model = in_pytorch.build(preset, presets.STRIDE, presets.LATENT_CHANNELS)
    low = arguments.precision == "bfloat16"
    return {"PyTorch, compiled": in_pytorch.loop(model, batches, compiled=True, bfloat16=low)}


def shares(ladder: Ladder, speed: float) -> None:
    """Prints what share of the device's peaks the steps reach."""
    model, tiles = ladder.model, ladder.tiles
    batch = jnp.zeros((tiles.batch_sizes[0], tiles.size, tiles.size, model.channels))
    values = [v.value for v in model.trainable_variables]

    def loss_of(weights, images):
        outputs, _ = model.stateless_call(weights, [], images)
        return jnp.mean(jnp.square(outputs - images))

    compiled = jax.jit(jax.grad(loss_of)).lower(values, batch).compile()
    analysis = compiled.cost_analysis()
    traffic = analysis["bytes accessed"] / len(batch)
    # Adam and the average read and write weights, gradients, moments and means.
    traffic += 4 * 9 * model.count_params() / len(batch)
    flops = 3 * model.flops_per_pixel * tiles.size**2
    product, bandwidth = peaks()
    print(
        f"\nbfloat16 matrix product {product / 1e12:,.1f} TFLOP/s: the steps reach "
        f"{speed * flops / product:.1%} of it\ncopy {bandwidth / 1e9:,.0f} GB/s: the steps reach "
        f"{speed * traffic / bandwidth:.1%} of it ({traffic / 1e6:.2f} MB an image by XLA's count)"
    )


def peaks(size: int = 4096, repeats: int = 10) -> tuple[float, float]:
    """FLOP/s of a bfloat16 matrix product, and bytes/s that a copy reads and writes."""
    a = jnp.ones((size, size), jnp.bfloat16)
    b = jnp.ones((64, 1024, 1024), jnp.float32)
    results = []
    for function, array, amount in (
        (jax.jit(lambda x: x @ x), a, 2 * size**3),
        (jax.jit(lambda x: x + 1), b, 2 * b.nbytes),
    ):
        function(array).block_until_ready()
        best = 0.0
        for _ in range(repeats):
            began = time.perf_counter()
            function(array).block_until_ready()
            best = max(best, amount / (time.perf_counter() - began))
        results.append(best)
    return results[0], results[1]


if __name__ == "__main__":
    main()
