"""What it costs to compare five budgets on many images, beside the models' bare predictions.

    python -m benchmarks.comparison --data cifar10_train_jpeg.zip --images 10000
    python -m benchmarks.comparison --data cifar10_train_jpeg.zip --memory

The models are of one preset with weights set to PCA: speed does not depend on weights. In turns, in
one process: their bare predictions on decoded images that lie in memory, through `predict` of Keras
and through a compiled function, each at its fastest batch; the scoring, from files to exact sums,
table and `images.jsonl`; and the statistics with the choice. With --memory, the peak memory of
scoring 1,000, 20,000 and 50,000 images, each in a process of its own.
"""

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions

from benchmarks.machine import machine
from keras_ae import presets
from keras_ae.comparison.compare import compare
from keras_ae.contract import SPLITS
from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import DataError
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.models.layers import to_float
from keras_ae.saved_model.export import export
from keras_ae.scores import Layout, Sums
from keras_ae.scoring.codecs import score_codecs
from keras_ae.scoring.floors import Floors, psnr_of
from keras_ae.scoring.models import Models, compared, forget, load
from keras_ae.scoring.reading import pixels, read
from pipeline.components.budget_comparison.scoring import Lines, Scores, score
from pipeline.components.image_example_gen.writing import to_example
from pipeline.runners.beam.engines import DIRECT, beam_arguments

BUDGETS = (10, 100, 500, 1000, 2000)
LAYOUT = Layout(BUDGETS, {"model": 1})
STAGES = {
    "model": [
        [
            SimpleNamespace(
                stop=budget, seconds=1.0, seed=0, preset="medium", parameters=1, losses=()
            )
            for budget in BUDGETS
        ]
    ]
}
CHANNELS = 3
BATCHES = (32, 128, 256, 512, 1024)
MEMORY = (1_000, 20_000, 50_000)
TENTH = {"train": 8, "val": 1, "test": 1}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a folder or archive of images")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--preset", choices=presets.PRESETS, default=presets.DEFAULT)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        _run(arguments.peak)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    print(f"{arguments.preset}, {len(BUDGETS)} budgets\n{machine()}\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory:
            _memory(arguments, Path(folder))
        else:
            _time(arguments, Path(folder))


def _memory(arguments: argparse.Namespace, place: Path) -> None:
    peaks = []
    for count in MEMORY:
        part = place / str(count)
        _prepare(arguments, part, count)
        program = [sys.executable, "-m", "benchmarks.comparison", "--data", arguments.data]
        done = subprocess.run(
            [*program, "--peak", str(part)], check=True, capture_output=True, text=True
        )
        peaks.append(int(done.stdout.split()[-1]) / 2**20)
        print(f"peak memory at {count:>6,} images: {peaks[-1]:.2f} GiB", flush=True)
    print(f"ratios to the first: {peaks[1] / peaks[0]:.2f} and {peaks[2] / peaks[0]:.2f}")


def _time(arguments: argparse.Namespace, place: Path) -> None:
    model = _prepare(arguments, place, arguments.images)
    began = time.perf_counter()
    _run(place)
    print(f"first scoring, with loading and tracing: {time.perf_counter() - began:.1f} s")
    batches = [batch for split in SPLITS for batch in read(_file(place, split))]
    images = np.concatenate([pixels(batch, CHANNELS).numpy() for batch in batches])
    ways = _bare(model, images)
    seconds: dict[str, list[float]] = {name: [] for name in [*ways, "scoring", "statistics"]}
    for _ in range(arguments.turns):
        for name, work in ways.items():
            seconds[name].append(_seconds(work))
        began = time.perf_counter()
        scores = _run(place)
        seconds["scoring"].append(time.perf_counter() - began)
        seconds["statistics"].append(
            _seconds(lambda scores=scores: compare(scores, LAYOUT, STAGES))
        )
    print(f"\n{len(images):,} images of {images.shape[1]}x{images.shape[2]} pixels, seconds")
    print(f"{'':<40} {'median':>8} {'lowest':>8} {'highest':>8}")
    for name, values in seconds.items():
        _row(name, values)
    comparison = np.array(seconds.pop("scoring")) + np.array(seconds.pop("statistics"))
    predict = min((v for k, v in seconds.items() if "predict" in k), key=np.median)
    fastest = min(seconds.values(), key=np.median)
    for name, bare in (("fastest predict", predict), ("fastest of all", fastest)):
        ratios = comparison / np.array(bare)
        print(
            f"the comparison to the {name}, turn by turn: {np.median(ratios):.2f} "
            f"({ratios.min():.2f} to {ratios.max():.2f})"
        )
    print("\nparts of scoring, one after the other, seconds for all images")
    for name, value in _parts(place, len(images)).items():
        print(f"{name:<32} {value:>8.2f}")
    print("\nnot a matter of the number of budgets, or bounded")
    print(f"{'loading the models':<32} {_loading(place):>8.2f}")
    train = list(images[: len(images) * TENTH["train"] // sum(TENTH.values())])
    print(f"{'fitting the global PCA':<32} {_fit_global(train)}")
    files, chosen, floors = _patterns(place), _models(place)[0], _floors(place)
    codecs = _seconds(lambda: score_codecs(files, chosen, floors, CHANNELS))
    print(f"{'codecs':<32} {codecs:>8.2f}")


def _bare(model: ConvAutoencoder, images: np.ndarray) -> dict[str, Callable[[], object]]:
    """The fastest ways to predict five times, by name."""
    floats = np.asarray(to_float(images))
    spec = tf.TensorSpec((None, None, None, CHANNELS), tf.float32)
    compiled = tf.function(lambda batch: model(batch), input_signature=[spec])

    def predict(size: int) -> Callable[[], object]:
        return lambda: model.predict(floats, batch_size=size, verbose=0)

    def call(size: int) -> Callable[[], object]:
        starts = range(0, len(floats), size)
        return lambda: [compiled(floats[start : start + size]).numpy() for start in starts]

    ways = {}
    for name, way in (("predict", predict), ("a compiled function", call)):
        size = min(BATCHES, key=lambda size: min(_seconds(way(size)) for _ in range(2)))
        ways[f"{name}, batches of {size}"] = _repeated(way(size))
    return ways


def _repeated(work: Callable[[], object]) -> Callable[[], object]:
    return lambda: [work() for _ in BUDGETS]


def _parts(place: Path, count: int) -> dict[str, float]:
    """What each part takes alone; in scoring they go on side by side."""
    models = load(_models(place), CHANNELS)
    floors = psnr_of(_floors(place), CHANNELS)
    table, size = next(Models(_models(place), _floors(place), CHANNELS).score(_file(place, "test")))
    file = _file(place, "test")
    (batch, *_) = read(file)
    originals = pixels(batch, CHANNELS)
    several = tf.stack([model.reconstruct(originals) for model in models])
    write = Lines("test", LAYOUT)
    works: dict[str, Callable[[], object]] = {
        "reading, digests": lambda: [e.digest for b in read(file) for e in b],
        "decoding": lambda: pixels(batch, CHANNELS),
        "models": lambda: [model.reconstruct(originals).numpy() for model in models],
        "metrics of the models": lambda: compared(originals, several),
        "floor": lambda: floors(originals),
        "sums": lambda: Sums().add(table),
        "lines": lambda: write(table, *size),
    }
    return {
        name: min(_seconds(work) for _ in range(5)) * count / len(batch)
        for name, work in works.items()
    }


def _loading(place: Path) -> float:
    forget()
    return _seconds(lambda: load(_models(place), CHANNELS))


def _fit_global(images: list[np.ndarray]) -> str:
    began = time.perf_counter()
    try:
        linear.fit_global(images, presets.STRIDE, presets.LATENT_CHANNELS)
    except DataError as reason:
        return str(reason)
    return f"{time.perf_counter() - began:>8.2f}"


def _prepare(arguments: argparse.Namespace, place: Path, count: int) -> ConvAutoencoder:
    """Writes images as ingest does, and the models; gives one of them."""
    place.mkdir(exist_ok=True)
    source = open_source(arguments.data)
    names = [name for shard in source.shards() for name in shard]
    order = np.random.default_rng(0).permutation(len(names))[:count]
    records = source.read(tuple(sorted(names[i] for i in order)))
    for split, tenths in TENTH.items():
        part = itertools.islice(records, count * tenths // sum(TENTH.values()))
        with tf.io.TFRecordWriter(_file(place, split), options="GZIP") as writer:
            for record in part:
                writer.write(to_example(record, CHANNELS))
    images = [
        image for batch in read(_file(place, "test")) for image in pixels(batch, CHANNELS).numpy()
    ]
    pca = linear.fit(linear.patch_moments(images, presets.STRIDE), presets.LATENT_CHANNELS)
    np.savez(place / "floor.npz", **pca._asdict())
    model = ConvAutoencoder(arguments.preset, seed=0)
    if model.preset.architecture == "linear-residual":
        linear.set_linear_path(model, pca)
    for path in _models(place):
        export(model, Path(path), floor=pca)
    return model


def _run(place: Path) -> dict[str, Scores]:
    def make_pipeline() -> beam.Pipeline:
        return beam.Pipeline(options=PipelineOptions(beam_arguments(DIRECT, 1, [])))

    models = {"model": [_models(place)]}
    file = place / "images.jsonl"
    return score(make_pipeline, _patterns(place), models, LAYOUT, _floors(place), CHANNELS, file)


def _floors(place: Path) -> Floors:
    with np.load(place / "floor.npz") as arrays:
        return Floors(linear.PatchPCA(**arrays), presets.STRIDE)


def _models(place: Path) -> list[str]:
    return [str(place / f"model-{budget}") for budget in BUDGETS]


def _file(place: Path, split: str) -> str:
    return str(place / f"{split}.gz")


def _patterns(place: Path) -> dict[str, str]:
    return {split: _file(place, split) for split in SPLITS}


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _row(name: str, values: list[float]) -> None:
    print(f"{name:<40} {np.median(values):>8.2f} {min(values):>8.2f} {max(values):>8.2f}")


if __name__ == "__main__":
    main()
