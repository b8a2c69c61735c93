"""Lists all copies of pictures that ingest finds in a data set, and draws some of them.

    python -m benchmarks.copies --data cifar10_train_jpeg.zip --sheet copies.png

Each line has the two files of a pair and the number of bits in which their hashes differ. The sheet
has up to 200 pairs, chosen at random, to be judged by eye. The last lines have the numbers and the
time of the search, and how many copies of other formats and sizes are found, of images of the data
set and of crops of the sample photographs.
"""

import argparse
import hashlib
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.machine import machine
from keras_ae.datasets.images.copies import FIELDS, fields, find_copies
from keras_ae.datasets.images.looks import look_at
from keras_ae.datasets.images.normalize import decode
from keras_ae.datasets.sources import sample_photos
from keras_ae.datasets.sources.base import Source
from keras_ae.datasets.sources.open import open_source
from pipeline.components.image_example_gen.checks import Check, check_shard
from pipeline.components.image_example_gen.splits import SplitAccumulator, SplitPlan

MAX_PAIRS, COLUMNS, SIDE, GAP = 200, 10, 64, 8
VARIED, CROPS, CROP_SIDES = 300, 300, (64, 160)
"""Numbers of images and crops of which copies are made, and the sides of the crops in pixels."""


def _saved(format: str, **options: Any) -> Callable[[Image.Image], bytes]:
    def save(image: Image.Image) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        return buffer.getvalue()

    return save


def _resized(factor: float, save: Callable[[Image.Image], bytes]) -> Callable[[Image.Image], bytes]:
    return lambda image: save(
        image.resize([round(factor * side) for side in image.size], Image.Resampling.BICUBIC)
    )


PNG = _saved("PNG")
VARIANTS = {
    **{f"JPEG of quality {q}": _saved("JPEG", quality=q) for q in (30, 50, 75)},
    **{f"WebP of quality {q}": _saved("WEBP", quality=q) for q in (30, 80)},
    "GIF": _saved("GIF"),
    "half the size, PNG": _resized(0.5, PNG),
    "half the size, JPEG 75": _resized(0.5, _saved("JPEG", quality=75)),
    "twice the size, PNG": _resized(2, PNG),
}
"""How a copy of an image, which is a PNG, is made."""


def main() -> None:
    """Parses the command line, searches, prints and draws."""
    arguments = _parse_arguments()
    source = open_source(arguments.data)
    with tempfile.TemporaryDirectory() as folder:
        checks, plan, seconds = _search(source, folder)
    by_digest = {check.digest: check for check in checks}
    pairs = sorted(
        (by_digest[digest], by_digest[picture])
        for digest, picture in plan.pictures.items()
        if digest != picture
    )
    for copy, largest in pairs:
        print(f"{copy.source} = {largest.source}, {_distance(copy, largest)} bits")
    equal = len(checks) - len(by_digest)
    print(f"\n{machine()}")
    print(
        f"{len(checks):,} images, {equal:,} of equal content as others, {len(pairs):,} that look "
        f"the same; search {seconds:.1f} s"
    )
    originals = {"data set": _varied(source, checks), "crops": _crops()}
    print(f"\n{'copies found of':<24} {'  '.join(f'{name:>8}' for name in originals)}")
    for name, vary in VARIANTS.items():
        shares = [np.mean([_is_found(i, vary) for i in images]) for images in originals.values()]
        print(f"{name:<24} {'  '.join(f'{share:>8.2f}' for share in shares)}")
    if arguments.sheet and pairs:
        chosen = np.random.default_rng(0).permutation(len(pairs))[:MAX_PAIRS]
        _draw(source, [pairs[i] for i in sorted(chosen)]).save(arguments.sheet)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a folder or archive of images")
    parser.add_argument("--sheet", type=Path, help="PNG file to write with pairs of copies")
    return parser.parse_args()


def _search(source: Source, folder: str) -> tuple[list[Check], SplitPlan, float]:
    """Checks all images; the seconds are those of the search for copies and of the plan."""
    accumulator, good = SplitAccumulator(), []
    for index, shard in enumerate(source.shards()):
        checks = check_shard(index, shard, source, 3, folder)
        accumulator.add(checks, index)
        good += [check for check in checks if not check.fault]
    begin = time.perf_counter()
    return good, accumulator.plan(1.0, work_folder=folder), time.perf_counter() - begin


def _distance(one: Check, other: Check) -> int:
    return (one.look[0] ^ other.look[0]).bit_count()


def _varied(source: Source, checks: Sequence[Check]) -> list[Image.Image]:
    chosen = np.random.default_rng(1).permutation(len(checks))[:VARIED]
    names = tuple(sorted(checks[i].source for i in chosen))
    return [Image.fromarray(decode(record.data, 3)) for record in source.read(names)]


def _crops() -> list[Image.Image]:
    rng = np.random.default_rng(2)
    names = [name for split in sample_photos.SPLITS.values() for name in split]
    crops = []
    for number in range(CROPS):
        with Image.open(sample_photos.path_of(names[number % len(names)])) as photograph:
            side = int(rng.integers(*CROP_SIDES))
            left, top = (int(rng.integers(length - side)) for length in photograph.size)
            crops.append(photograph.convert("RGB").crop((left, top, left + side, top + side)))
    return crops


def _is_found(image: Image.Image, vary: Callable[[Image.Image], bytes]) -> bool:
    rows, thumbnails = [], []
    for encoded in (PNG(image), vary(image)):
        pixels = decode(encoded, 3)
        look, small = look_at(pixels, encoded)
        if look is None:
            return False
        content = hashlib.sha256(encoded).digest()
        rows.append(fields(look, len(encoded), float(small.mean()), content))
        thumbnails.append(small)
    return len(set(find_copies(np.array(rows, FIELDS), thumbnails.__getitem__).tolist())) == 1


def _draw(source: Source, pairs: list[tuple[Check, Check]]) -> Image.Image:
    names = sorted({check.source for pair in pairs for check in pair})
    images = {r.key: Image.fromarray(decode(r.data, 3)) for r in source.read(tuple(names))}
    rows = -(-len(pairs) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (2 * SIDE + GAP), rows * (SIDE + GAP)), "white")
    for number, pair in enumerate(pairs):
        left, top = number % COLUMNS * (2 * SIDE + GAP), number // COLUMNS * (SIDE + GAP)
        for index, check in enumerate(pair):
            sheet.paste(images[check.source].resize((SIDE, SIDE)), (left + index * SIDE, top))
    return sheet


if __name__ == "__main__":
    main()
