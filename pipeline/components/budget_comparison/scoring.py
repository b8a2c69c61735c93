"""Scores all models on all images, on Beam: exact sums, a sample, and a line for each image."""

import io
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np

from keras_ae import storage
from keras_ae.contract import SPLITS
from keras_ae.scores import FLOORS, LargestCopies, Layout, Sample, Sums, Table, make_table
from keras_ae.scoring.floors import Floors
from keras_ae.scoring.models import Scorer
from pipeline.runtime.artifacts import SUMMARY
from pipeline.runtime.stages import read_summary

_SLICE = "slice/"


class Scores(NamedTuple):
    """The exact sums over all pictures of a split, the scores of a sample of them, at most
    `keras_ae.scores.MAX_SAMPLE_IMAGES`, and the number of files, more than pictures if there are
    copies."""

    sums: Sums
    table: Table
    files: int


def score(
    make_pipeline: Callable[[], beam.Pipeline],
    patterns: Mapping[str, str],
    models: Mapping[str, Sequence[Sequence[str]]],
    layout: Layout,
    floors: Floors,
    channels: int,
    images_file: Path,
    parts: str,
) -> dict[str, Scores]:
    """Scores every model on every image.

    Each image is decoded once. Memory is bounded, however many images there are: a few batches of
    them, sums, and a sample of the scores. Beam's elements are files, so that it moves neither
    images nor their scores. Sums are exact, so that they do not depend on how work is distributed.

    Args:
        make_pipeline: creates the Beam pipeline to run in.
        patterns: pattern of the files of each split: GZIP TFRecords of tf.Examples.
        models: folders of the SavedModels by ladder, seed and budget.
        layout: the ladders, seeds and budgets of `models`.
        floors: the linear floors.
        channels: 1 or 3.
        images_file: file to write with a line of JSON for each image, see `Lines`.
        parts: path or URI of a folder that all workers of the pipeline can write to; it is removed.

    Returns:
        The scores of each split that has files.

    Raises:
        DataError: with the source of an image that cannot be decoded.
    """
    files = [
        (split, index, file)
        for split, pattern in patterns.items()
        for index, file in enumerate(storage.glob(pattern))
    ]
    paths = [path for ladder in layout.seeds for by_budget in models[ladder] for path in by_budget]
    storage.make_folder(parts)
    try:
        with make_pipeline() as pipeline:
            _ = (
                pipeline
                | "Files" >> beam.Create(files)
                | "Spread" >> beam.Reshuffle()
                | "Score" >> beam.ParDo(_ScoreFile(paths, layout, floors, channels, parts))
                | "Sum" >> beam.CombinePerKey(_Combine())
                | "Keep" >> beam.Map(_save, parts)
            )
        with images_file.open("wb") as whole:
            for split, index, _ in files:
                with storage.open_file(_part(parts, split, index)) as part:
                    shutil.copyfileobj(part, whole)
        saved = {split: _file(parts, split) for split in patterns}
        return {split: _load(file) for split, file in saved.items() if storage.exists(file)}
    finally:
        storage.remove(parts)


class _ScoreFile(beam.DoFn):
    """Maps a file to tables of the scores of its images, and writes their lines."""

    def __init__(self, paths: list[str], layout: Layout, floors: Floors, channels: int, parts: str):
        self._paths, self._layout, self._floors = paths, layout, floors
        self._channels, self._parts = channels, parts

    def setup(self) -> None:
        self._models = Scorer(self._paths, self._floors, self._channels, graph_of)

    def process(self, element: tuple[str, int, str]) -> Iterator[tuple[str, tuple[Table, int]]]:
        split, index, file = element
        write = Lines(split, self._layout)
        with storage.create_file(_part(self._parts, split, index)) as lines:
            for table, size in self._models.score(file):
                lines.write(write(table, *size).encode())
                yield split, (table, math.prod(size))

    def teardown(self) -> None:
        del self._models


class _Accumulator:
    """Sums over pictures, a sample of them, and the number of their files."""

    def __init__(self) -> None:
        self._sums, self._sample, self._copies, self._files = Sums(), Sample(), LargestCopies(), 0

    def add(self, table: Table, pixels: int) -> None:
        """Adds the scores of images of one size, and their number of pixels."""
        self._files += len(table)
        self._add(self._copies.add(table, pixels))

    def merge(self, other: "_Accumulator") -> None:
        """Adds the contents of another accumulator."""
        self._sums.merge(other._sums)
        self._sample.merge(other._sample)
        self._copies.merge(other._copies)
        self._files += other._files

    def scores(self) -> Scores:
        """The scores of all pictures; to be called once, at the end."""
        self._add(self._copies.table())
        return Scores(self._sums, self._sample.table(), self._files)

    def _add(self, table: Table) -> None:
        if len(table):
            self._sums.add(table)
            self._sample.add(table)


class _Combine(beam.CombineFn):
    """Combines tables to the scores of a split."""

    def create_accumulator(self) -> _Accumulator:
        return _Accumulator()

    def add_input(self, accumulator: _Accumulator, element: tuple[Table, int]) -> _Accumulator:
        accumulator.add(*element)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[_Accumulator]) -> _Accumulator:
        merged = self.create_accumulator()
        for other in accumulators:
            merged.merge(other)
        return merged

    def extract_output(self, accumulator: _Accumulator) -> Scores:
        return accumulator.scores()


def _save(item: tuple[str, Scores], parts: str) -> None:
    split, (sums, table, files) = item
    texts = {"sources": table.sources, "digests": table.digests, "pictures": table.pictures}
    texts |= {f"{_SLICE}{by}": column for by, column in table.slices.items()}
    arrays: dict[str, Any] = {name: column.astype(str) for name, column in texts.items()}
    buffer = io.BytesIO()
    np.savez(buffer, sums=json.dumps(sums.to_list()), values=table.values, files=files, **arrays)
    storage.write_file(_file(parts, split), buffer.getvalue())


def _load(file: str) -> Scores:
    arrays = np.load(io.BytesIO(storage.read_file(file)), allow_pickle=False)
    slices = {n.removeprefix(_SLICE): arrays[n] for n in arrays.files if n.startswith(_SLICE)}
    return Scores(
        Sums.from_list(json.loads(str(arrays["sums"]))),
        make_table(
            arrays["sources"], arrays["digests"], slices, arrays["values"], arrays["pictures"]
        ),
        int(arrays["files"]),
    )


def _file(parts: str, split: str) -> str:
    return storage.join(parts, f"{split}.npz")


def _part(parts: str, split: str, index: int) -> str:
    return storage.join(parts, f"{SPLITS.index(split)}-{index:05d}.jsonl")


class Lines:
    """Formats tables as lines of `images.jsonl`, one for each image: an object with

    - `split`, `source`, `digest`, `height`, `width` (pixels) and `slices`, by their kind;
    - `picture`, for an image with copies: equal for all files of a picture;
    - `patch_pca` and `global_pca`: PSNR of the floors in dB;
    - `scores`: by ladder and metric, for each seed a list with a number for each budget.

    Numbers are as short as float32 allows, and null where a metric is not defined.
    """

    def __init__(self, split: str, layout: Layout):
        self._order: list[int] = []
        select = partial(layout.select, np.arange(layout.width))
        floors = {name: self._placeholder(layout.floor_column(name)) for name in FLOORS}
        ladders = {
            ladder: {
                metric: [[self._placeholder(i) for i in row] for row in select(ladder, metric)]
                for metric in ("psnr", "ssim", "ms_ssim", "mse")
            }
            for ladder in layout.seeds
        }
        template = json.dumps({**floors, "scores": ladders}).replace('"%s"', "%s")
        self._begin, self._end = f'{{"split": {json.dumps(split)}, ', f", {template[1:]}\n"

    def _placeholder(self, column: int) -> str:
        self._order.append(column)
        return "%s"

    def __call__(self, table: Table, height: int, width: int) -> str:
        """The lines of images of one size."""
        values = table.values[:, self._order]
        texts = np.where(np.isfinite(values), values.astype(str), "null").tolist()
        lines = []
        for row, (source, digest, numbers) in enumerate(zip(table.sources, table.digests, texts)):
            slices = {by: column[row] for by, column in table.slices.items()}
            size = {"height": height, "width": width}
            picture = {"picture": table.pictures[row]} if table.pictures[row] else {}
            facts = {"source": source, "digest": digest, **size, "slices": slices, **picture}
            image = json.dumps(facts)
            lines.append(self._begin + image[1:-1] + self._end % (*numbers,))
        return "".join(lines)


def graph_of(folder: str) -> str:
    """What the graph of a SavedModel depends on; its folder, if it has no summary of a stage.

    TensorFlow's own fingerprint does not suffice: it leaves out what the functions compute.
    """
    model = storage.parent(folder)
    has_summary = storage.exists(storage.join(model, SUMMARY))
    return read_summary(model).graph if has_summary else folder
