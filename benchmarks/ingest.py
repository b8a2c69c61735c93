"""What it costs to bring images in, and to go over them, beside a plain loop with Pillow.

    python -m benchmarks.ingest --data cifar10_train_jpeg.zip --folder scratch
    python -m benchmarks.ingest --data cifar10_train_jpeg.zip --folder scratch \
        --images 1000 10000 --photographs 60 --stages plain ingest --turns 3

Subsets of the small images, and photographs of 12 megapixels: crops of the sample photographs,
enlarged, with grain that gives a file the size of a camera's. Each stage is a process of its own on
one core, on two as it is, or on two with two workers of Beam. Seconds are those of the stage with
the start of its workers and without the imports of its own process, the processors' seconds beside
are of all its processes. Memory is the peak of what all its processes hold together, with what they
share of files, such as libraries, counted once.
"""

import argparse
import io
import os
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from PIL import Image

from benchmarks.machine import machine
from keras_ae import storage
from keras_ae.datasets.sources import sample_photos
from keras_ae.datasets.sources.open import open_source
from pipeline.runners.beam.engines import DIRECT, beam_arguments

WAYS = {
    "1 core": (1, beam_arguments(DIRECT, 1, [])),
    "2 cores": (2, beam_arguments(DIRECT, 1, [])),
    "2 workers": (2, beam_arguments(DIRECT, 2, [])),
}
ONE, TWO = "1 core", ("2 cores", "2 workers")
STAGES = ("plain", "plain-stored", "ingest", "transform", "comparison")
PHOTOGRAPHS = "photographs"
SIDES, QUALITY, GRAIN = (4000, 3000), 90, 4.0
SECONDS_BETWEEN = 0.2
MB, GB = 1e6, 2**30


class Cost(NamedTuple):
    """Seconds of a stage, seconds that processors computed for it, peak bytes of its processes."""

    seconds: float
    cpu: float
    memory: float


class Input(NamedTuple):
    """Images to measure with.

    Attributes:
        name: of the row.
        data: folder or archive.
        images: how many.
        size: of their files together, in bytes.
    """

    name: str
    data: str
    images: int
    size: int


Costs = dict[tuple[str, str, str], Cost]
"""By input, stage and way."""


def main() -> None:
    """Measures and prints."""
    arguments = _arguments()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(f"{machine()}\n", flush=True)
    inputs = list(_inputs(arguments))
    costs: Costs = {}
    columns = f"{'images/s':>10} {'MB/s':>8} {'seconds':>9} {'CPU s':>8} {'GiB':>6}"
    print(f"{'':<22} {'':<13} {'':<10} {columns}")
    for given in inputs:
        for (stage, way), cost in _measured(given, arguments).items():
            costs[given.name, stage, way] = cost
            rates = given.images / cost.seconds, given.size / MB / cost.seconds
            print(
                f"{given.name:<22} {stage:<13} {way:<10} {rates[0]:>10,.1f} {rates[1]:>8.2f} "
                f"{cost.seconds:>9.1f} {cost.cpu:>8.1f} {cost.memory / GB:>6.2f}",
                flush=True,
            )
    print()
    for line in _ratios(inputs, costs):
        print(line)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a folder or archive of small images")
    parser.add_argument("--folder", type=Path, required=True, help="for what is made and kept")
    parser.add_argument("--images", type=int, nargs="*", default=[1_000, 10_000, 50_000])
    parser.add_argument("--photographs", type=int, default=500, help="0 for none")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--turns", type=int, default=1)
    return parser.parse_args()


def _measured(given: Input, arguments: argparse.Namespace) -> dict[tuple[str, str], Cost]:
    """Medians over turns, each of which goes through all stages and ways."""
    turns: dict[tuple[str, str], list[Cost]] = {}
    place = arguments.folder / "runs" / given.name.replace(" ", "-")
    shutil.rmtree(place, ignore_errors=True)
    if "comparison" in arguments.stages:
        _run("model", ONE, given.data, place / "model")
    if {"transform", "comparison"} & {*arguments.stages} and "ingest" not in arguments.stages:
        _run("ingest", TWO[0], given.data, place / "examples")
    for _ in range(arguments.turns):
        for stage in arguments.stages:
            for way in arguments.ways if not stage.startswith("plain") else [ONE]:
                made = place / ("examples" if stage == "ingest" else "out")
                shutil.rmtree(made, ignore_errors=True)
                data = given.data if stage in STAGES[:3] else str(place / "examples")
                cost = _run(stage, way, data, made)
                print(f"{given.name}, {stage}, {way}: {cost.seconds:.1f} s", file=sys.stderr)
                turns.setdefault((stage, way), []).append(cost)
    shutil.rmtree(place)
    return {
        key: Cost(*(statistics.median(values) for values in zip(*costs)))
        for key, costs in turns.items()
    }


def _run(stage: str, way: str, data: str, place: Path) -> Cost:
    cores, beam_arguments = WAYS[way]
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    if len(allowed) < cores:
        raise SystemExit(f"{way!r} needs {cores} cores; this process has {len(allowed)}")
    program = ["taskset", "-c", ",".join(map(str, allowed)), sys.executable, "-m"]
    program += ["benchmarks.stages", stage, data, str(place), *beam_arguments]
    errors = place.parent / f"{stage}.log"
    errors.parent.mkdir(parents=True, exist_ok=True)
    with errors.open("w") as log:
        process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=log, text=True)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _memory(process.pid))
            time.sleep(SECONDS_BETWEEN)
    output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{stage} failed:\n{errors.read_text()[-2000:]}")
    ((_, seconds, cpu),) = (li.split() for li in output.splitlines() if li.startswith("seconds "))
    return Cost(float(seconds), float(cpu), peak)


def _memory(pid: int) -> float:
    private, shared = 0.0, [0.0]
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                held = one.memory_info()
                private += held.rss - held.shared
                shared.append(held.shared)
    return private + max(shared)


def _inputs(arguments: argparse.Namespace) -> Iterator[Input]:
    for count in arguments.images:
        path = arguments.folder / f"images-{count}.zip"
        if not path.exists():
            _subset(arguments.data, count, path)
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        yield Input(f"{count:,} small", str(path), count, size)
    if count := arguments.photographs:
        place = arguments.folder / f"{PHOTOGRAPHS}-{count}"
        _photographs(count, place)
        names = list(storage.names_below(str(place)))
        size = sum(status.size for status in storage.statuses(str(place), names))
        yield Input(f"{count:,} of 12 megapixels", str(place), count, size)


def _subset(data: str, count: int, path: Path) -> None:
    source = open_source(data)
    names = [name for shard in source.shards() for name in shard]
    if len(names) < count:
        raise SystemExit(f"{data} has {len(names):,} images; --images asks for {count:,}")
    chosen = np.random.default_rng(0).permutation(len(names))[:count]
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w") as archive:
        for record in source.read(tuple(names[i] for i in sorted(chosen))):
            archive.writestr(record.key, record.data)
    partial.replace(path)


def _photographs(count: int, place: Path) -> None:
    """Makes those that are not there yet."""
    place.mkdir(exist_ok=True)
    names = [name for split in sample_photos.SPLITS.values() for name in split]
    for number in range(count):
        path = place / f"{number:05d}.jpg"
        if not path.exists():
            path.write_bytes(_photograph(names[number % len(names)], number))


def _photograph(name: str, number: int) -> bytes:
    rng = np.random.default_rng(number)
    with Image.open(sample_photos.path_of(name)) as original:
        colours = original.convert("RGB")
    share = rng.uniform(0.6, 1.0)
    width = int(share * min(colours.width, colours.height * SIDES[0] / SIDES[1]))
    height = width * SIDES[1] // SIDES[0]
    left, top = rng.integers(colours.width - width + 1), rng.integers(colours.height - height + 1)
    box = (int(left), int(top), int(left) + width, int(top) + height)
    enlarged = np.asarray(colours.resize(SIDES, Image.Resampling.BICUBIC, box), np.int16)
    grain = rng.normal(0, GRAIN, (SIDES[1], SIDES[0], 1)).astype(np.int16)
    buffer = io.BytesIO()
    pixels = (enlarged + grain).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _ratios(inputs: Sequence[Input], costs: Costs) -> Iterator[str]:
    """What the goals ask for."""
    for given in inputs:
        mine = costs.get((given.name, "ingest", ONE))
        for loop in STAGES[:2]:
            if mine and (other := costs.get((given.name, loop, ONE))):
                ratio, cpu = other.seconds / mine.seconds, other.cpu / mine.cpu
                yield f"{given.name}: ingest on a core to {loop}: {ratio:.2f}, CPU {cpu:.2f}"
        for stage in STAGES[2:]:
            one = costs.get((given.name, stage, ONE))
            for way in TWO:
                if one and (two := costs.get((given.name, stage, way))):
                    gain = one.seconds / two.seconds
                    yield f"{given.name}: {stage}, {way} to one core: {gain:.2f}"
    small = [given for given in inputs if given.name.endswith("small")]
    for less, more in zip(small, small[1:]):
        for (name, stage, way), cost in costs.items():
            if name == less.name and (other := costs.get((more.name, stage, way))):
                yield _growth(less, cost, more, other, f"{stage}, {way}")


def _growth(less: Input, cost: Cost, more: Input, other: Cost, what: str) -> str:
    images = more.images - less.images
    each = (other.seconds - cost.seconds) / images * 1e6
    return (
        f"{less.name} to {more.name}: {what}: {each:,.0f} us for each more image, "
        f"memory {other.memory / cost.memory:.2f} times"
    )


if __name__ == "__main__":
    main()
