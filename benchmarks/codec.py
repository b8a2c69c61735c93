"""Bytes of an image as a .kae file, JPEG, WebP and AVIF at equal PSNR.

    python -m benchmarks.codec --model runs/default/serving/keras_ae
    python -m benchmarks.codec --model MODEL --images photo.jpg another.png

MODEL is a SavedModel, or a folder of versions of which the newest is taken. Without --images these
are the test photographs of the sample data, which a default run has not seen. Whole files are
counted: JPEG with optimised Huffman tables, WebP with the slowest method, AVIF at speed 4. Prints

- bits per pixel and PSNR of .kae files at several qualities,
- bytes of .kae files relative to the other formats, as the mean of the logarithms over the PSNR
  that both reach below --below (as Bjontegaard's delta rate, by straight lines),
- real bytes over ideal code lengths, both without header and steps,
- seconds to code and to decode a latent on one core, without the model.
"""

import argparse
import io
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from benchmarks.machine import machine
from keras_ae.codec import tiles
from keras_ae.codec.file import TRADE, compress, decompress
from keras_ae.codec.header import Header
from keras_ae.codec.steps import scale_of_quality, step_values
from keras_ae.datasets.sources.sample_photos import SPLITS, path_of

QUALITIES = (95, 85, 75, 65, 55, 50, 45, 40, 35, 25)
CODECS: dict[str, tuple[dict[str, Any], Iterable[int]]] = {
    "JPEG": ({"optimize": True}, range(1, 96, 2)),
    "WEBP": ({"method": 6}, range(0, 96, 3)),
    "AVIF": ({"speed": 4}, range(0, 96, 5)),
}
Curve = np.ndarray
"""Bits per pixel and PSNR in dB, float64 [N, 2]."""


def main() -> None:
    """Parses the command line, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--images", nargs="*", type=Path)
    parser.add_argument("--below", type=float, nargs="+", default=[28.0, 100.0], metavar="DB")
    arguments = parser.parse_args()
    model = Model(arguments.model)
    paths = arguments.images or [path_of(name) for name in SPLITS["test"]]
    print(f"{machine()}\nsteps {model.steps}\n")
    names = "  ".join(f"{'q' + str(quality):>12}" for quality in QUALITIES)
    print(f"{'bits per pixel, dB':24} {names}")
    images = {path.name: read(path) for path in paths}
    curves = {name: print_curve(name, model, image) for name, image in images.items()}
    others = {name: {kind: codec_curve(images[name], kind) for kind in CODECS} for name in images}
    for below in arguments.below:
        print(f"\n{'bytes relative to':24}" + "".join(f"{kind:>9}" for kind in CODECS) + "   at dB")
        ratios = [print_ratios(name, curves[name], others[name], below) for name in images]
        means = np.exp(np.nanmean(np.log(ratios), 0)) - 1
        print(f"{'mean':24}" + "".join(f"{mean:>+9.1%}" for mean in means))
    print("\nreal over ideal code length, and the code's bytes")
    for name, image in images.items():
        print_lengths(name, model, image)
    print("\nseconds to code and to decode, best of 5")
    for shape in ((64, 96, 8), (64, 96, 32)):
        print_time(model, images, shape)


class Model:
    """The signatures of a SavedModel that the codec works with."""

    def __init__(self, folder: Path) -> None:
        versions = sorted(
            (int(path.name), path) for path in folder.iterdir() if path.name.isdigit()
        )
        self._signatures = tf.saved_model.load(
            str(versions[-1][1] if versions else folder)
        ).signatures
        outputs = self._signatures["encode"](images=np.zeros((1, 1, 1, 3), np.uint8))
        self.steps = tuple(outputs["steps"].numpy()[0].tolist())
        self._stride = self.decode(outputs["latents"].numpy()[0]).shape[0]

    def encode(self, image: np.ndarray) -> np.ndarray:
        """Maps an image, uint8 [H, W, 3], to latents, float32 [h, w, c]."""
        return self._signatures["encode"](images=image[None])["latents"].numpy()[0]

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Maps latents to an image whose sides are multiples of the stride."""
        return self._signatures["decode"](latents=latents[None])["images"].numpy()[0]

    def header(self, image: np.ndarray) -> Header:
        """The header of an image."""
        return Header(bytes(8), image.shape[1], image.shape[0], 3, self._stride, self.steps)


def read(path: Path) -> np.ndarray:
    """Reads an image as uint8 [H, W, 3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def psnr(image: np.ndarray, decoded: np.ndarray) -> float:
    """PSNR in dB of uint8 images."""
    return float(-10 * np.log10(np.square(image / 255 - decoded / 255).mean()))


def print_curve(name: str, model: Model, image: np.ndarray) -> Curve:
    """Prints and returns the curve of .kae files of an image."""
    latents, header = model.encode(image), model.header(image)
    points = []
    for quality in QUALITIES:
        data = compress(latents, header, scale_of_quality(quality))
        decoded = model.decode(decompress(data)[0])[: image.shape[0], : image.shape[1]]
        points.append((8 * len(data) / image[..., 0].size, psnr(image, decoded)))
    print(f"{name:24} " + "  ".join(f"{bits:.3f}, {db:.2f}" for bits, db in points), flush=True)
    return np.array(points)


def codec_curve(image: np.ndarray, kind: str) -> Curve:
    """The curve of an image in another format."""
    options, qualities = CODECS[kind]
    points = []
    for quality in qualities:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, kind, quality=quality, **options)
        with Image.open(buffer) as decoded:
            score = psnr(image, np.asarray(decoded.convert("RGB")))
        points.append((8 * buffer.getbuffer().nbytes / image[..., 0].size, score))
    return np.array(points)


def print_ratios(name: str, ours: Curve, others: dict[str, Curve], below: float) -> list[float]:
    """Prints and returns the bytes of .kae files over those of each format."""
    ratios, ranges = [], []
    for theirs in others.values():
        low = max(ours[:, 1].min(), theirs[:, 1].min())
        high = min(ours[:, 1].max(), theirs[:, 1].max(), below)
        at = np.linspace(low, high, 50)
        both = [np.interp(at, *increasing(curve)) for curve in (ours, theirs)]
        ratios.append(float(np.exp(np.mean(both[0] - both[1]))) if low < high else np.nan)
        ranges.append(f"{low:.1f} to {high:.1f}" if low < high else "none")
    print(f"{name:24}" + "".join(f"{r - 1:>+9.1%}" for r in ratios) + f"   {', '.join(ranges)}")
    return ratios


def increasing(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """PSNR, increasing, and the logarithm of the bits."""
    order = np.argsort(curve[:, 1])
    return curve[order, 1], np.log(curve[order, 0])


class CountingEncoder(tiles.Encoder):
    """Adds up the ideal code lengths of what it writes."""

    bits = 0.0

    def code(self, symbols: np.ndarray, tables: np.ndarray) -> np.ndarray:
        chosen = tables[np.arange(len(symbols)), symbols]
        self.bits += float(np.log2(tables.sum(1) / chosen).sum())
        return super().code(symbols, tables)


def print_lengths(name: str, model: Model, image: np.ndarray) -> None:
    """Prints real over ideal code lengths at three qualities."""
    latents = model.encode(image)
    results = []
    for quality in (80, 50, 20):
        steps = step_values(np.array(model.steps) + scale_of_quality(quality))
        encoder = CountingEncoder()
        tiles.encode_tile(latents / steps, TRADE, encoder)
        size = 4 * len(encoder.words)
        results.append(f"{8 * size / encoder.bits:.4f} ({size:>6,})")
    print(f"{name:24} " + "  ".join(results), flush=True)


def print_time(model: Model, images: dict[str, np.ndarray], shape: tuple[int, int, int]) -> None:
    """Prints the processor time for a latent that is made of those of the images."""
    latents = model.encode(max(images.values(), key=np.size))
    repeats = [-(-size // part) for size, part in zip(shape, latents.shape)]
    latents = np.tile(latents, repeats)[: shape[0], : shape[1], : shape[2]]
    latents += np.random.default_rng(0).normal(0, 0.1, shape)
    steps = (model.steps * repeats[2])[: shape[2]]
    header = Header(bytes(8), 8 * shape[1], 8 * shape[0], 3, 8, steps)
    data = compress(latents, header, scale_of_quality(50))
    coding = seconds(lambda: compress(latents, header, scale_of_quality(50)))
    print(
        f"{shape!s:24} {coding:.3f} {seconds(lambda: decompress(data)):.3f}   {len(data):,} bytes"
    )


def seconds(function: Callable[[], object]) -> float:
    """The least processor time of five calls."""
    times = []
    for _ in range(5):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
