"""Held-out quality of a preset at several latent sizes, beside that of PCA of the same size.

    python -m benchmarks.latent_sizes --budgets 10,100,500

A size is CHANNELSxSTRIDE, such as 8x8 for 8 channels at stride 8. Each budget is trained for all
sizes before the next one, and a line is printed for each: test PSNR over whole images in dB. The
images are the sample photographs, as in `benchmarks.quality`.
"""

import argparse

from benchmarks import data
from benchmarks.machine import machine
from benchmarks.models import fit_pca
from benchmarks.quality import floor_psnr, held_out_psnr
from keras_ae import budgets, presets
from keras_ae.datasets.tiles import Tiles
from keras_ae.training.ladder import Ladder, create_ladder

SIZES = "8x8,2x8,4x8,16x8,32x8,64x8,32x16,2x4"


def main() -> None:
    """Parses the command line, trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=presets.PRESETS, default=presets.DEFAULT)
    parser.add_argument("--budgets", type=budgets.parse, default=(10, 100, 500))
    parser.add_argument("--sizes", default=SIZES, metavar="CHANNELSxSTRIDE,...")
    arguments = parser.parse_args()
    images = data.load("sample")
    print(
        f"{presets.get(arguments.preset)}\n{machine()}\n\n{'channels':>8} {'stride':>7} "
        f"{'epochs':>7} {'seconds':>8} {'floor':>7} {'test':>7} {'over floor':>11}",
        flush=True,
    )
    rows: list[tuple[int, int, float, Ladder]] = []
    for size in arguments.sizes.split(","):
        channels, stride = (int(number) for number in size.split("x"))
        floor = fit_pca(images["train"], stride, channels)
        ladder = create_ladder(
            arguments.preset,
            Tiles(images["train"], stride=stride),
            floor,
            stride=stride,
            latent_channels=channels,
        )
        rows.append((channels, stride, floor_psnr(floor, images, stride)["test"], ladder))
    for budget in arguments.budgets:
        for channels, stride, lowest, ladder in rows:
            ladder.train(budget)
            psnr = held_out_psnr(ladder, images, ema=True)["test"]
            print(
                f"{channels:>8} {stride:>7} {budget:>7} {ladder.seconds:>8.0f} {lowest:>7.2f} "
                f"{psnr:>7.2f} {psnr - lowest:>+11.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
