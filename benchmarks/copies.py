"""Lists all copies of pictures that ingest finds in a data set, and draws some of them.

    python -m benchmarks.copies --data cifar10_train_jpeg.zip --sheet copies.png

Each line has the two files of a pair and the number of bits in which their hashes differ. The sheet
has up to 200 pairs, chosen at random, to be judged by eye. The last lines have the numbers and the
time of the search.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import machine
from keras_ae.datasets.images.normalize import decode
from keras_ae.datasets.sources.base import Source
from keras_ae.datasets.sources.open import open_source
from pipeline.components.image_example_gen.checks import Check, check_shard
from pipeline.components.image_example_gen.splits import Plan, SplitAccumulator

MAX_PAIRS, COLUMNS, SIDE, GAP = 200, 10, 64, 8


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
    if arguments.sheet and pairs:
        chosen = np.random.default_rng(0).permutation(len(pairs))[:MAX_PAIRS]
        _draw(source, [pairs[i] for i in sorted(chosen)]).save(arguments.sheet)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a folder or archive of images")
    parser.add_argument("--sheet", type=Path, help="PNG file to write with pairs of copies")
    return parser.parse_args()


def _search(source: Source, folder: str) -> tuple[list[Check], Plan, float]:
    """Checks all images; the seconds are those of the search for copies and of the plan."""
    accumulator, good = SplitAccumulator(), []
    for index, shard in enumerate(source.shards()):
        checks = check_shard(index, shard, source, 3, folder)
        accumulator.add(checks, index)
        good += [check for check in checks if not check.fault]
    begin = time.perf_counter()
    return good, accumulator.plan(1.0, folder), time.perf_counter() - begin


def _distance(one: Check, other: Check) -> int:
    return (one.look[0] ^ other.look[0]).bit_count()


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
