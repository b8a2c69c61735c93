"""The cost of ingest, Transform and scoring, compared with a plain loop with Pillow.

    python -m benchmarks.ingest --data cifar10_train_jpeg.zip --folder scratch
    python -m benchmarks.ingest --data cifar10_train_jpeg.zip --folder scratch \
        --images 1000 10000 --photographs 60 --stages plain ingest --repeats 3

The inputs are subsets of the small images, and photographs of 12 megapixels: enlarged crops of the
sample photographs, with noise that gives a file the size of a camera's. Each stage runs in a
process of its own on one core, on two cores, or on two cores with two workers of Beam. Its seconds
include the start of its workers but not the imports of its own process; its processor seconds are
those of all its processes. Memory is the peak of all its processes together, where shared memory,
such as that of libraries, is counted once.
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

SETUPS = {
    "1 core": (1, beam_arguments(DIRECT, 1, [])),
    "2 cores": (2, beam_arguments(DIRECT, 1, [])),
    "2 workers": (2, beam_arguments(DIRECT, 2, [])),
}
"""Number of cores and arguments of Beam by name."""
ONE_CORE, TWO_CORES = "1 core", ("2 cores", "2 workers")
PLAIN_LOOPS, PIPELINE_STAGES = ("plain", "plain-stored"), ("ingest", "transform", "comparison")
STAGES = (*PLAIN_LOOPS, *PIPELINE_STAGES)
PHOTOGRAPH_SIZE, JPEG_QUALITY, NOISE_DEVIATION = (4000, 3000), 90, 4.0
POLL_SECONDS = 0.2
MB, GIB = 1e6, 2**30


class Cost(NamedTuple):
    """Cost of a stage.

    Attributes:
        seconds: wall-clock time.
        cpu_seconds: processor time of all processes.
        peak_bytes: memory of all processes.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: float


class Input(NamedTuple):
    """Images to measure with.

    Attributes:
        name: name of the row.
        data: folder or archive.
        image_count: number of images.
        total_bytes: size of their files together.
    """

    name: str
    data: str
    image_count: int
    total_bytes: int


Costs = dict[tuple[str, str, str], Cost]
"""Costs by input, stage and setup."""


def main() -> None:
    """Parses the command line, measures and prints."""
    arguments = _parse_arguments()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(f"{machine()}\n", flush=True)
    inputs = list(_inputs(arguments))
    costs: Costs = {}
    columns = f"{'images/s':>10} {'MB/s':>8} {'seconds':>9} {'CPU s':>8} {'GiB':>6}"
    print(f"{'':<22} {'':<13} {'':<10} {columns}")
    for images in inputs:
        for (stage, setup), cost in _measure(images, arguments).items():
            costs[images.name, stage, setup] = cost
            rates = images.image_count / cost.seconds, images.total_bytes / MB / cost.seconds
            print(
                f"{images.name:<22} {stage:<13} {setup:<10} {rates[0]:>10,.1f} {rates[1]:>8.2f} "
                f"{cost.seconds:>9.1f} {cost.cpu_seconds:>8.1f} {cost.peak_bytes / GIB:>6.2f}",
                flush=True,
            )
    print()
    for line in _ratios(inputs, costs):
        print(line)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a folder or archive of small images")
    parser.add_argument("--folder", type=Path, required=True, help="for inputs, which are reused")
    parser.add_argument(
        "--images", type=int, nargs="*", default=[1_000, 10_000, 50_000], help="sizes of subsets"
    )
    parser.add_argument("--photographs", type=int, default=500, help="number; 0 for none")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--setups", nargs="+", choices=SETUPS, default=list(SETUPS))
    parser.add_argument("--repeats", type=int, default=1, help="measurements of each kind")
    return parser.parse_args()


def _measure(images: Input, arguments: argparse.Namespace) -> dict[tuple[str, str], Cost]:
    """Median costs by stage and setup, over repeats that each run all stages and setups."""
    measured: dict[tuple[str, str], list[Cost]] = {}
    folder = arguments.folder / "runs" / images.name.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    if "comparison" in arguments.stages:
        _run_stage("model", ONE_CORE, images.data, folder / "model")
    if {"transform", "comparison"} & {*arguments.stages} and "ingest" not in arguments.stages:
        _run_stage("ingest", TWO_CORES[0], images.data, folder / "examples")
    for _ in range(arguments.repeats):
        for stage in arguments.stages:
            for setup in arguments.setups if stage in PIPELINE_STAGES else [ONE_CORE]:
                output = folder / ("examples" if stage == "ingest" else "out")
                shutil.rmtree(output, ignore_errors=True)
                reads_examples = stage in ("transform", "comparison")
                data = str(folder / "examples") if reads_examples else images.data
                cost = _run_stage(stage, setup, data, output)
                print(f"{images.name}, {stage}, {setup}: {cost.seconds:.1f} s", file=sys.stderr)
                measured.setdefault((stage, setup), []).append(cost)
    shutil.rmtree(folder)
    return {
        key: Cost(*(statistics.median(values) for values in zip(*costs)))
        for key, costs in measured.items()
    }


def _run_stage(stage: str, setup: str, data: str, output: Path) -> Cost:
    cores, beam_arguments = SETUPS[setup]
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    if len(allowed) < cores:
        raise SystemExit(f"{setup!r} needs {cores} cores; this process has {len(allowed)}")
    program = ["taskset", "-c", ",".join(map(str, allowed)), sys.executable, "-m"]
    program += ["benchmarks.stages", stage, data, str(output), *beam_arguments]
    log = output.parent / f"{stage}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stderr:
        process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=stderr, text=True)
        peak_bytes = 0.0
        while process.poll() is None:
            peak_bytes = max(peak_bytes, _memory_bytes(process.pid))
            time.sleep(POLL_SECONDS)
    stdout = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{stage} failed:\n{log.read_text()[-2000:]}")
    ((_, seconds, cpu_seconds),) = (
        line.split() for line in stdout.splitlines() if line.startswith("seconds ")
    )
    return Cost(float(seconds), float(cpu_seconds), peak_bytes)


def _memory_bytes(pid: int) -> float:
    """Resident memory of a process and its descendants, with shared memory counted once."""
    private, shared = 0.0, [0.0]
    with suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.Error):
                memory = process.memory_info()
                private += memory.rss - memory.shared
                shared.append(memory.shared)
    return private + max(shared)


def _inputs(arguments: argparse.Namespace) -> Iterator[Input]:
    for count in arguments.images:
        path = arguments.folder / f"images-{count}.zip"
        if not path.exists():
            _write_subset(arguments.data, count, path)
        with zipfile.ZipFile(path) as archive:
            total_bytes = sum(info.file_size for info in archive.infolist())
        yield Input(f"{count:,} small", str(path), count, total_bytes)
    if count := arguments.photographs:
        folder = arguments.folder / f"photographs-{count}"
        _write_photographs(count, folder)
        names = list(storage.walk_names(str(folder)))
        total_bytes = sum(status.size for status in storage.get_statuses(str(folder), names))
        yield Input(f"{count:,} of 12 megapixels", str(folder), count, total_bytes)


def _write_subset(data: str, count: int, path: Path) -> None:
    source = open_source(data)
    names = [name for shard in source.shards() for name in shard]
    if len(names) < count:
        raise SystemExit(f"--images must be at most the {len(names):,} of {data}; got {count:,}")
    chosen = np.random.default_rng(0).permutation(len(names))[:count]
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w") as archive:
        for record in source.read(tuple(names[i] for i in sorted(chosen))):
            archive.writestr(record.key, record.data)
    partial.replace(path)


def _write_photographs(count: int, folder: Path) -> None:
    """Writes the photographs that do not exist yet."""
    folder.mkdir(exist_ok=True)
    names = [name for split in sample_photos.SPLITS.values() for name in split]
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        if not path.exists():
            path.write_bytes(_photograph(names[number % len(names)], number))


def _photograph(name: str, seed: int) -> bytes:
    """A JPEG file of a random crop of a sample photograph, enlarged, with noise."""
    rng = np.random.default_rng(seed)
    with Image.open(sample_photos.path_of(name)) as original:
        image = original.convert("RGB")
    large_width, large_height = PHOTOGRAPH_SIZE
    share = rng.uniform(0.6, 1.0)
    width = int(share * min(image.width, image.height * large_width / large_height))
    height = width * large_height // large_width
    left, top = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
    box = (int(left), int(top), int(left) + width, int(top) + height)
    enlarged = np.asarray(image.resize(PHOTOGRAPH_SIZE, Image.Resampling.BICUBIC, box), np.int16)
    noise = rng.normal(0, NOISE_DEVIATION, (large_height, large_width, 1)).astype(np.int16)
    buffer = io.BytesIO()
    pixels = (enlarged + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _ratios(inputs: Sequence[Input], costs: Costs) -> Iterator[str]:
    """Lines with ratios of speed, for which `docs/scaling.md` sets goals, and growth."""
    for images in inputs:
        ingest = costs.get((images.name, "ingest", ONE_CORE))
        for loop in PLAIN_LOOPS:
            if ingest and (plain := costs.get((images.name, loop, ONE_CORE))):
                speed = plain.seconds / ingest.seconds
                cpu = plain.cpu_seconds / ingest.cpu_seconds
                yield f"{images.name}: ingest to {loop} on one core: {speed:.2f}, CPU {cpu:.2f}"
        for stage in PIPELINE_STAGES:
            one = costs.get((images.name, stage, ONE_CORE))
            for setup in TWO_CORES:
                if one and (two := costs.get((images.name, stage, setup))):
                    speedup = one.seconds / two.seconds
                    yield f"{images.name}: {stage}, {setup} to one core: {speedup:.2f}"
    small = [images for images in inputs if images.name.endswith("small")]
    for fewer, more in zip(small, small[1:]):
        for (name, stage, setup), cost in costs.items():
            if name == fewer.name and (other := costs.get((more.name, stage, setup))):
                microseconds = (
                    (other.seconds - cost.seconds) / (more.image_count - fewer.image_count) * 1e6
                )
                yield (
                    f"{fewer.name} to {more.name}: {stage}, {setup}: {microseconds:,.0f} us per "
                    f"additional image, memory {other.peak_bytes / cost.peak_bytes:.2f} times"
                )


if __name__ == "__main__":
    main()
