"""The whole ladder on one accelerator with JAX, compared with Keras's `fit` and PyTorch.

    KERAS_BACKEND=jax python -m benchmarks.gpu --data cifar10.npy --preset large

Prints held-out quality and time at each budget of the ladder; images/s of this project, of Keras's
`fit` on JAX and, where PyTorch is installed, of a compiled PyTorch loop, all with one batch size;
and the share that the project's training steps reach of the device's peak bfloat16 matrix product
and of its memory bandwidth (that of a copy). Neither TensorFlow nor the network is needed.
"""

import argparse
from collections.abc import Callable
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import keras
import numpy as np

from benchmarks import data
from benchmarks.machine import machine
from benchmarks.models import fit_pca, keras_fit
from benchmarks.quality import floor_psnr, held_out_psnr
from benchmarks.timing import measure_rate, measure_seconds
from keras_ae import budgets, presets
from keras_ae.datasets.tiles import Tiles
from keras_ae.models import linear
from keras_ae.models.autoencoder import PRECISIONS, ConvAutoencoder
from keras_ae.training.ladder import Ladder, create_ladder


def main() -> None:
    """Parses the command line, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder, archive or .npy of small images")
    parser.add_argument("--limit", type=int, help="maximum number of images")
    parser.add_argument("--preset", choices=presets.PRESETS, default="large")
    parser.add_argument("--budgets", type=budgets.parse, default=budgets.DEFAULT)
    parser.add_argument("--precision", choices=PRECISIONS, default="bfloat16")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=5, help="epochs by which speed is measured")
    arguments = parser.parse_args()
    if keras.backend.backend() != "jax":
        parser.error(f"set KERAS_BACKEND=jax; got {keras.backend.backend()}")
    images = data.load(arguments.data, arguments.limit)
    tiles = Tiles(images["train"], stride=presets.STRIDE, batch_size=arguments.batch_size)
    floor = fit_pca(images["train"])
    ladder = create_ladder(arguments.preset, tiles, floor, precision=arguments.precision)
    print(
        f"{arguments.preset}, {arguments.precision}, {ladder.model.count_params():,} parameters, "
        f"{len(tiles):,} tiles of {tiles.size}x{tiles.size}, batches of {tiles.batch_sizes[0]}, "
        f"{ladder.placement}\n{machine()}\n",
        flush=True,
    )
    train_and_report(ladder, arguments.budgets, images, floor)
    speed = ladder.train(ladder.epoch + arguments.epochs).tiles_per_second
    alternatives = {"Keras fit": fit_alternative(arguments, tiles)}
    alternatives |= pytorch_alternative(arguments, tiles)
    print(f"\n{'':<18} {'images/s':>10} {'keras-ae is':>12}\n{'keras-ae':<18} {speed:>10,.0f}")
    for name, train in alternatives.items():
        train(1)  # compiles
        seconds = measure_seconds(lambda train=train: train(arguments.epochs))
        other_speed = len(tiles) * arguments.epochs / seconds
        print(f"{name:<18} {other_speed:>10,.0f} {speed / other_speed:>11.2f}x", flush=True)
    print_utilization(ladder, speed)


def train_and_report(
    ladder: Ladder,
    ladder_budgets: tuple[int, ...],
    images: dict[str, list[np.ndarray]],
    floor: linear.PatchPCA,
) -> None:
    """Trains up the ladder and prints speed and quality at each budget."""
    lowest = floor_psnr(floor, images)
    print(
        f"{'epochs':>8} {'seconds':>8} {'images/s':>10} {'val':>7} {'test':>7} {'over floor':>11}"
    )
    print(f"{'floor':>8} {'':>8} {'':>10} {lowest['val']:>7.2f} {lowest['test']:>7.2f}")
    for budget in ladder_budgets:
        speed = ladder.train(budget).tiles_per_second
        psnr = held_out_psnr(ladder, images, ema=True)
        print(
            f"{budget:>8} {ladder.seconds:>8.1f} {speed:>10,.0f} {psnr['val']:>7.2f} "
            f"{psnr['test']:>7.2f} {psnr['test'] - lowest['test']:>+11.2f}",
            flush=True,
        )


def fit_alternative(arguments: argparse.Namespace, tiles: Tiles) -> Callable[[int], object]:
    """Keras's `fit` with the batch size of the tiles."""
    model = ConvAutoencoder(arguments.preset, precision=arguments.precision)
    return keras_fit(model, tiles, tiles.batch_sizes[0])


def pytorch_alternative(
    arguments: argparse.Namespace, tiles: Tiles
) -> dict[str, Callable[[int], object]]:
    """A compiled PyTorch loop by its name, where PyTorch is installed."""
    if not find_spec("torch"):
        print("PyTorch: not installed")
        return {}
    from benchmarks.in_pytorch import training_loop

    bfloat16 = arguments.precision == "bfloat16"
    loop = training_loop(arguments.preset, tiles, compiled=True, bfloat16=bfloat16)
    return {"PyTorch, compiled": loop}


def print_utilization(ladder: Ladder, speed: float) -> None:
    """Prints the shares of the device's peaks that the training steps reach.

    Args:
        ladder: the training.
        speed: its images per second.
    """
    model, tiles = ladder.model, ladder.tiles
    batch = jnp.zeros((tiles.batch_sizes[0], tiles.size, tiles.size, model.channels))
    values = [v.value for v in model.trainable_variables]

    def loss_of(weights, images):
        outputs, _ = model.stateless_call(weights, [], images)
        return jnp.mean(jnp.square(outputs - images))

    compiled = jax.jit(jax.grad(loss_of)).lower(values, batch).compile()
    analysis = compiled.cost_analysis()
    traffic = analysis["bytes accessed"] / len(batch)
    # Adam and the EMA read and write weights, gradients, moments and means: nine float32 values
    # per parameter.
    traffic += 4 * 9 * model.count_params() / len(batch)
    # A backward pass costs two forward ones.
    flops = 3 * model.flops_per_pixel * tiles.size**2
    product, bandwidth = measure_peaks()
    print(
        f"\nbfloat16 matrix product {product / 1e12:,.1f} TFLOP/s: the steps reach "
        f"{speed * flops / product:.1%} of it\ncopy {bandwidth / 1e9:,.0f} GB/s: the steps reach "
        f"{speed * traffic / bandwidth:.1%} of it ({traffic / 1e6:.2f} MB an image by XLA's count)"
    )


def measure_peaks(size: int = 4096, repeats: int = 10) -> tuple[float, float]:
    """FLOP/s of a bfloat16 matrix product, and bytes/s that a copy reads and writes."""
    matrix = jnp.ones((size, size), jnp.bfloat16)
    array = jnp.ones((64, 1024, 1024), jnp.float32)
    multiply, copy = jax.jit(lambda x: x @ x), jax.jit(lambda x: x + 1)
    return (
        measure_rate(lambda: multiply(matrix).block_until_ready(), 2 * size**3, repeats),
        measure_rate(lambda: copy(array).block_until_ready(), 2 * array.nbytes, repeats),
    )


if __name__ == "__main__":
    main()
