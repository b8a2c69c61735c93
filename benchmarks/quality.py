"""Held-out quality at each budget of a ladder, of a preset or of a modified preset.

    python -m benchmarks.quality --budgets 10,100,500,1000,2000
    python -m benchmarks.quality --set blocks=2,2 --set widths=96 --without ema
    python -m benchmarks.quality --data cifar10.zip --preset large --precision bfloat16

Prints a line for each budget: mean PSNR over whole images of val and test, in dB, and the gain on
test over PCA of patches with the same latent size. Runs on the backend of KERAS_BACKEND. The
pipeline reads the images in another order, so its results differ by a few hundredths of a dB. Parts
of the training can be left out with --without:

    ema             the raw weights are measured instead of the EMA weights
    pca             the linear path is initialized at random
    flips           tiles are not flipped
    transpose       rows and columns of tiles are not swapped
    permutations    colour channels of tiles are not permuted
"""

import argparse
import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np

from benchmarks import data
from benchmarks.machine import machine
from benchmarks.models import fit_pca
from keras_ae import budgets, presets
from keras_ae.datasets.tiles import Augmentation, Tiles
from keras_ae.models import linear
from keras_ae.models.autoencoder import PRECISIONS, ConvAutoencoder
from keras_ae.training.ladder import Ladder
from keras_ae.training.validation import mean_psnr

PARTS = ("ema", "pca", "flips", "transpose", "permutations")


def main() -> None:
    """Parses the command line, trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sample", help="sample, a folder, an archive or an .npy")
    parser.add_argument("--limit", type=int, help="maximum number of images")
    parser.add_argument("--preset", choices=presets.PRESETS, default=presets.DEFAULT)
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the preset"
    )
    parser.add_argument(
        "--without", action="append", default=[], choices=PARTS, help="a part that is left out"
    )
    parser.add_argument("--budgets", type=budgets.parse, default=budgets.DEFAULT)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    preset = modify(presets.get(arguments.preset), arguments.set)
    images = data.load(arguments.data, arguments.limit)
    model = ConvAutoencoder(preset, precision=arguments.precision, seed=arguments.seed)
    floor = fit_pca(images["train"])
    if preset.architecture == "linear-residual" and "pca" not in arguments.without:
        linear.set_linear_path(model, floor)
    tiles = AblatedTiles(
        images["train"],
        stride=presets.STRIDE,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        without=arguments.without,
    )
    ladder = Ladder(model, tiles)
    lowest = floor_psnr(floor, images)
    print(
        f"{preset}\nwithout {', '.join(arguments.without) or 'nothing'}, {arguments.precision}\n"
        f"{model.count_params():,} parameters, {model.flops_per_pixel:,.0f} FLOPs per pixel, "
        f"{len(tiles):,} tiles of {tiles.size}x{tiles.size} an epoch, batches of "
        f"{tiles.batch_sizes[0]}\n{machine()}\n\n"
        f"{'epochs':>8} {'seconds':>8} {'tiles/s':>8} {'val':>7} {'test':>7} {'over floor':>11}\n"
        f"{'floor':>8} {'':>8} {'':>8} {lowest['val']:>7.2f} {lowest['test']:>7.2f}",
        flush=True,
    )
    for budget in arguments.budgets:
        summary = ladder.train(budget)
        psnr = held_out_psnr(ladder, images, ema="ema" not in arguments.without)
        print(
            f"{budget:>8} {ladder.seconds:>8.0f} {summary.tiles_per_second:>8,.0f} "
            f"{psnr['val']:>7.2f} {psnr['test']:>7.2f} {psnr['test'] - lowest['test']:>+11.2f}",
            flush=True,
        )


class AblatedTiles(Tiles):
    """Tiles without parts of the augmentation: "flips", "transpose" or "permutations"."""

    def __init__(self, *arguments, without: Sequence[str], **options):
        super().__init__(*arguments, **options)
        self._without = without

    def draw(self, epoch: int) -> Augmentation:
        """The remaining augmentation parameters of an epoch."""
        augmentation = super().draw(epoch)
        if "flips" in self._without:
            augmentation = augmentation._replace(flips=augmentation.flips & False)
        if "transpose" in self._without:
            augmentation = augmentation._replace(transposes=augmentation.transposes & False)
        if "permutations" in self._without:
            augmentation.channels[:] = range(augmentation.channels.shape[1])
        return augmentation


def modify(preset: presets.Preset, settings: list[str]) -> presets.Preset:
    """A preset with other values of its fields, such as `blocks=2,2` or `clipnorm=none`."""
    values: dict = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name in ("widths", "blocks"):
            values[name] = tuple(int(part) for part in text.split(","))
        elif name == "jit_compile":
            values[name] = text == "true"
        else:
            values[name] = None if text == "none" else float(text)
    return dataclasses.replace(preset, **values)


def held_out_psnr(
    ladder: Ladder, images: dict[str, list[np.ndarray]], *, ema: bool
) -> dict[str, float]:
    """Mean PSNR on val and test in dB, of the EMA weights or of the raw ones."""
    with ladder.ema_model() if ema else nullcontext(ladder.model) as model:
        return {split: mean_psnr(model, images[split]) for split in ("val", "test")}


def floor_psnr(
    floor: linear.PatchPCA, images: dict[str, list[np.ndarray]], stride: int = presets.STRIDE
) -> dict[str, float]:
    """Mean PSNR of the patch PCA on val and test in dB."""

    def reconstruct(batch):
        return linear.reconstruct(batch, floor, stride)

    return {split: mean_psnr(reconstruct, images[split]) for split in ("val", "test")}


if __name__ == "__main__":
    main()
