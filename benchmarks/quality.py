"""Held-out quality of a preset, or of one that differs from it in some points, up a ladder.

    python -m benchmarks.quality --budgets 10,100,500,1000,2000
    python -m benchmarks.quality --set blocks=2,2 --set widths=96 --without average
    python -m benchmarks.quality --data cifar10.zip --preset large --precision bfloat16

Prints a line for each budget: mean PSNR over whole images of val and test, in dB, and what they are
above PCA of patches with as many latent numbers. Runs on the backend of KERAS_BACKEND. The pipeline
takes the images in another order and differs by some hundredths; here parts can be left out:

    average      the raw weights are measured, not their EMA
    pca          the linear path starts at random
    flips, turns, permutations    of the tiles
"""

import argparse
import dataclasses

from benchmarks import data
from benchmarks.machine import machine
from keras_ae import budgets, presets
from keras_ae.datasets.tiles import Augmentation, Tiles
from keras_ae.models import linear
from keras_ae.models.autoencoder import PRECISIONS, ConvAutoencoder
from keras_ae.training.ladder import Ladder
from keras_ae.training.validation import mean_psnr

PARTS = ("average", "pca", "flips", "turns", "permutations")


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sample", help="sample, a folder, an archive or an .npy")
    parser.add_argument("--limit", type=int, help="of images")
    parser.add_argument("--preset", choices=presets.PRESETS, default=presets.DEFAULT)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--without", action="append", default=[], choices=PARTS)
    parser.add_argument("--budgets", type=budgets.parse, default=budgets.DEFAULT)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    preset = changed(presets.get(arguments.preset), arguments.set)
    images = data.load(arguments.data, arguments.limit)
    kept = {name: name not in arguments.without for name in PARTS}
    model = ConvAutoencoder(preset, precision=arguments.precision, seed=arguments.seed)
    floor = linear.fit(
        linear.patch_moments(images["train"], presets.STRIDE), presets.LATENT_CHANNELS
    )
    if preset.architecture == "linear-residual" and kept["pca"]:
        linear.set_linear_path(model, floor)
    tiles = PartOfTiles(
        images["train"],
        stride=presets.STRIDE,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        kept=kept,
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
        found = measure(ladder, images, averaged=kept["average"])
        print(
            f"{budget:>8} {ladder.seconds:>8.0f} {summary.tiles_per_second:>8,.0f} "
            f"{found['val']:>7.2f} {found['test']:>7.2f} {found['test'] - lowest['test']:>+11.2f}",
            flush=True,
        )


class PartOfTiles(Tiles):
    """Tiles that leave some of their draws out."""

    def __init__(self, *arguments, kept: dict[str, bool], **options):
        super().__init__(*arguments, **options)
        self._kept = kept

    def draw(self, epoch: int) -> Augmentation:
        """What chance decides in an epoch."""
        draws = super().draw(epoch)
        if not self._kept["flips"]:
            draws = draws._replace(flips=draws.flips & False)
        if not self._kept["turns"]:
            draws = draws._replace(turns=draws.turns & False)
        if not self._kept["permutations"]:
            draws.channels[:] = range(draws.channels.shape[1])
        return draws


def changed(preset: presets.Preset, settings: list[str]) -> presets.Preset:
    """A preset with fields set anew, such as `blocks=2,2` or `clipnorm=none`."""
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


def measure(ladder: Ladder, images: dict, *, averaged: bool) -> dict[str, float]:
    """Mean PSNR on val and test, dB."""
    if not averaged:
        return {split: mean_psnr(ladder.model, images[split]) for split in ("val", "test")}
    with ladder.averaged() as model:
        return {split: mean_psnr(model, images[split]) for split in ("val", "test")}


def floor_psnr(floor: linear.PatchPCA, images: dict) -> dict[str, float]:
    """Mean PSNR of the patch PCA on val and test, dB."""

    def reconstruct(batch):
        return linear.reconstruct(batch, floor, presets.STRIDE)

    return {split: mean_psnr(reconstruct, images[split]) for split in ("val", "test")}


if __name__ == "__main__":
    main()
