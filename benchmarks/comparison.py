"""The cost of comparing five budgets on many images, next to the models' bare predictions.

    python -m benchmarks.comparison --data cifar10_train_jpeg.zip --images 10000
    python -m benchmarks.comparison --data cifar10_train_jpeg.zip --memory

The models are of one preset with weights set to PCA: speed does not depend on weights. The
following are measured alternately, in one process: bare predictions on decoded images in memory,
through `predict` of Keras and through a compiled function, each with its fastest batch size; the
scoring, from files to exact sums, table and `images.jsonl`; and the statistics with the choice of a
budget. With --memory, the peak memory of scoring 1,000, 20,000 and 50,000 images is measured
instead, each in a process of its own.
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
from benchmarks.models import fit_pca, initialize
from benchmarks.timing import measure_seconds
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
from keras_ae.scoring.floors import Floors, floor_psnr
from keras_ae.scoring.models import Scorer, load, measure_reconstructions, unload_all
from keras_ae.scoring.reading import decode_batch, read_batches
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
BATCH_SIZES = (32, 128, 256, 512, 1024)
MEMORY_IMAGES = (1_000, 20_000, 50_000)
TENTHS = {"train": 8, "val": 1, "test": 1}


def main() -> None:
    """Parses the command line, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a folder or archive of images")
    parser.add_argument("--images", type=int, default=10_000, help="number of images")
    parser.add_argument("--preset", choices=presets.PRESETS, default=presets.DEFAULT)
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each kind")
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        _score(arguments.peak)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    print(f"{arguments.preset}, {len(BUDGETS)} budgets\n{machine()}\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory:
            _measure_memory(arguments, Path(folder))
        else:
            _measure_time(arguments, Path(folder))


def _measure_memory(arguments: argparse.Namespace, folder: Path) -> None:
    peaks = []
    for count in MEMORY_IMAGES:
        subfolder = folder / str(count)
        _prepare(arguments, subfolder, count)
        program = [sys.executable, "-m", "benchmarks.comparison", "--data", arguments.data]
        completed = subprocess.run(
            [*program, "--peak", str(subfolder)], check=True, capture_output=True, text=True
        )
        peaks.append(int(completed.stdout.split()[-1]) / 2**20)
        print(f"peak memory at {count:>6,} images: {peaks[-1]:.2f} GiB", flush=True)
    print(f"ratios to the first: {peaks[1] / peaks[0]:.2f} and {peaks[2] / peaks[0]:.2f}")


def _measure_time(arguments: argparse.Namespace, folder: Path) -> None:
    model = _prepare(arguments, folder, arguments.images)
    print(
        f"first scoring, with loading and tracing: {measure_seconds(lambda: _score(folder)):.1f} s"
    )
    batches = [batch for split in SPLITS for batch in read_batches(_file(folder, split))]
    images = np.concatenate([decode_batch(batch, CHANNELS).numpy() for batch in batches])
    predictions = _bare_predictions(model, images)
    seconds: dict[str, list[float]] = {name: [] for name in [*predictions, "scoring", "statistics"]}
    for _ in range(arguments.repeats):
        for name, predict in predictions.items():
            seconds[name].append(measure_seconds(predict))
        start = time.perf_counter()
        scores = _score(folder)
        seconds["scoring"].append(time.perf_counter() - start)
        seconds["statistics"].append(
            measure_seconds(lambda scores=scores: compare(scores, LAYOUT, STAGES))
        )
    print(f"\n{len(images):,} images of {images.shape[1]}x{images.shape[2]} pixels, seconds")
    print(f"{'':<40} {'median':>8} {'lowest':>8} {'highest':>8}")
    for name, values in seconds.items():
        print(f"{name:<40} {np.median(values):>8.2f} {min(values):>8.2f} {max(values):>8.2f}")
    comparison = np.array(seconds.pop("scoring")) + np.array(seconds.pop("statistics"))
    predict_seconds = min((v for k, v in seconds.items() if "predict" in k), key=np.median)
    fastest_seconds = min(seconds.values(), key=np.median)
    for name, bare in (("fastest predict", predict_seconds), ("fastest of all", fastest_seconds)):
        ratios = comparison / np.array(bare)
        print(
            f"ratio of the comparison to the {name}, by repeat: {np.median(ratios):.2f} "
            f"({ratios.min():.2f} to {ratios.max():.2f})"
        )
    print("\nparts of scoring, one after the other, seconds for all images")
    for name, value in _measure_parts(folder, len(images)).items():
        print(f"{name:<32} {value:>8.2f}")
    print("\nbounded, or independent of the number of budgets, seconds")
    print(f"{'loading the models':<32} {_measure_loading(folder):>8.2f}")
    train = list(images[: len(images) * TENTHS["train"] // sum(TENTHS.values())])
    print(f"{'fitting the global PCA':<32} {_measure_global_pca(train)}")
    files, chosen, floors = _patterns(folder), _model_paths(folder)[0], _floors(folder)
    codecs = measure_seconds(lambda: score_codecs(files, chosen, floors, CHANNELS))
    print(f"{'codecs':<32} {codecs:>8.2f}")


def _bare_predictions(
    model: ConvAutoencoder, images: np.ndarray
) -> dict[str, Callable[[], object]]:
    """Functions that predict all images once per budget, each with its fastest batch size."""
    floats = np.asarray(to_float(images))
    spec = tf.TensorSpec((None, None, None, CHANNELS), tf.float32)
    compiled = tf.function(lambda batch: model(batch), input_signature=[spec])

    def predict(batch_size: int) -> object:
        return model.predict(floats, batch_size=batch_size, verbose=0)

    def call_compiled(batch_size: int) -> object:
        starts = range(0, len(floats), batch_size)
        return [compiled(floats[start : start + batch_size]).numpy() for start in starts]

    def best_seconds(function: Callable[[int], object], batch_size: int) -> float:
        return min(measure_seconds(lambda: function(batch_size)) for _ in range(2))

    predictions = {}
    for name, function in (("predict", predict), ("a compiled function", call_compiled)):
        batch_size = min(BATCH_SIZES, key=lambda size: best_seconds(function, size))
        predictions[f"{name}, batches of {batch_size}"] = _for_each_budget(function, batch_size)
    return predictions


def _for_each_budget(function: Callable[[int], object], batch_size: int) -> Callable[[], object]:
    return lambda: [function(batch_size) for _ in BUDGETS]


def _measure_parts(folder: Path, count: int) -> dict[str, float]:
    """Seconds of each part when it runs alone; in scoring the parts run concurrently."""
    models = load(_model_paths(folder), CHANNELS)
    floors = floor_psnr(_floors(folder), CHANNELS)
    file = _file(folder, "test")
    table, size = next(Scorer(_model_paths(folder), _floors(folder), CHANNELS).score(file))
    (batch, *_) = read_batches(file)
    originals = decode_batch(batch, CHANNELS)
    reconstructions = tf.stack([model.reconstruct(originals) for model in models])
    write = Lines("test", LAYOUT)
    parts: dict[str, Callable[[], object]] = {
        "reading, digests": lambda: [e.digest for b in read_batches(file) for e in b],
        "decoding": lambda: decode_batch(batch, CHANNELS),
        "models": lambda: [model.reconstruct(originals).numpy() for model in models],
        "metrics of the models": lambda: measure_reconstructions(originals, reconstructions),
        "floor": lambda: floors(originals),
        "sums": lambda: Sums().add(table),
        "lines": lambda: write(table, *size),
    }
    return {
        name: min(measure_seconds(part) for _ in range(5)) * count / len(batch)
        for name, part in parts.items()
    }


def _measure_loading(folder: Path) -> float:
    unload_all()
    return measure_seconds(lambda: load(_model_paths(folder), CHANNELS))


def _measure_global_pca(images: list[np.ndarray]) -> str:
    """Seconds of a fit as text, or the reason why there is no global PCA of these images."""
    try:
        seconds = measure_seconds(
            lambda: linear.fit_global(images, presets.STRIDE, presets.LATENT_CHANNELS)
        )
    except DataError as error:
        return str(error)
    return f"{seconds:>8.2f}"


def _prepare(arguments: argparse.Namespace, folder: Path, count: int) -> ConvAutoencoder:
    """Writes images as ingest does, and the models of all budgets; returns one of the models."""
    folder.mkdir(exist_ok=True)
    source = open_source(arguments.data)
    names = [name for shard in source.shards() for name in shard]
    order = np.random.default_rng(0).permutation(len(names))[:count]
    records = source.read(tuple(sorted(names[i] for i in order)))
    for split, tenths in TENTHS.items():
        split_records = itertools.islice(records, count * tenths // sum(TENTHS.values()))
        with tf.io.TFRecordWriter(_file(folder, split), options="GZIP") as writer:
            for record in split_records:
                writer.write(to_example(record, CHANNELS))
    pca = fit_pca(
        image
        for batch in read_batches(_file(folder, "test"))
        for image in decode_batch(batch, CHANNELS).numpy()
    )
    linear.save(pca, folder / "floor.npz")
    model = initialize(arguments.preset, pca)
    for path in _model_paths(folder):
        export(model, Path(path), floor=pca)
    return model


def _score(folder: Path) -> dict[str, Scores]:
    def make_pipeline() -> beam.Pipeline:
        return beam.Pipeline(options=PipelineOptions(beam_arguments(DIRECT, 1, [])))

    return score(
        make_pipeline,
        _patterns(folder),
        {"model": [_model_paths(folder)]},
        LAYOUT,
        _floors(folder),
        CHANNELS,
        folder / "images.jsonl",
        str(folder / "parts"),
    )


def _floors(folder: Path) -> Floors:
    return Floors(linear.load(folder / "floor.npz"), presets.STRIDE)


def _model_paths(folder: Path) -> list[str]:
    return [str(folder / f"model-{budget}") for budget in BUDGETS]


def _file(folder: Path, split: str) -> str:
    return str(folder / f"{split}.gz")


def _patterns(folder: Path) -> dict[str, str]:
    return {split: _file(folder, split) for split in SPLITS}


if __name__ == "__main__":
    main()
