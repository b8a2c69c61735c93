"""All models on all images, on Beam: exact sums, a bounded table, and a line for each image."""

import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import tensorflow as tf

from keras_ae.contract import SPLITS
from keras_ae.scores import Layout, Sample, Sums, Table
from pipeline.components.budget_comparison.floors import Floors
from pipeline.components.budget_comparison.lines import Lines
from pipeline.components.budget_comparison.models import Models


class Scores(NamedTuple):
    """The scores of a split.

    Attributes:
        sums: over all its images, exact.
        table: of `keras_ae.scores.MOST` of its images, or of all if they are no more.
    """

    sums: Sums
    table: Table


def score(
    make_pipeline: Callable[[], beam.Pipeline],
    patterns: Mapping[str, str],
    models: Mapping[str, Sequence[Sequence[str]]],
    layout: Layout,
    floors: Floors,
    channels: int,
    images_file: Path,
) -> dict[str, Scores]:
    """Scores every model on every image.

    Each image is decoded once. What is held is bounded, however many images there are: some batches
    of them, sums, and a sample of the scores. Beam's elements are files, so that it moves no image
    and no score of one; where sums are made does not change a bit of them.

    Args:
        make_pipeline: the Beam pipeline to run in.
        patterns: of each split, the pattern of its files: GZIP TFRecords of tf.Examples.
        models: by ladder, by seed, by budget, the folder of the SavedModel.
        layout: what `models` holds.
        floors: the linear floors.
        channels: 1 or 3.
        images_file: gets a line of JSON for each image, see `lines.Lines`.

    Returns:
        The scores of each split that has a file.

    Raises:
        DataError: with the source of an image that cannot be decoded.
    """
    files = [
        (split, index, file)
        for split, pattern in patterns.items()
        for index, file in enumerate(sorted(tf.io.gfile.glob(pattern)))
    ]
    paths = [path for ladder in layout.seeds for of_seed in models[ladder] for path in of_seed]
    with tempfile.TemporaryDirectory(dir=images_file.parent) as folder:
        place = Path(folder)
        with make_pipeline() as pipeline:
            _ = (
                pipeline
                | "Files" >> beam.Create(files)
                | "Spread" >> beam.Reshuffle()
                | "Score" >> beam.ParDo(_ScoreFile(paths, layout, floors, channels, place))
                | "Sum" >> beam.CombinePerKey(_Combine())
                | "Keep" >> beam.Map(_keep, place)
            )
        _join([_part(place, split, index) for split, index, _ in files], images_file)
        return {split: _kept(place / split) for split in patterns if (place / split).exists()}


class _ScoreFile(beam.DoFn):
    """A file to tables of the scores of its images; and their lines, beside."""

    def __init__(
        self, paths: list[str], layout: Layout, floors: Floors, channels: int, place: Path
    ):
        self._paths, self._layout, self._floors = paths, layout, floors
        self._channels, self._place = channels, place

    def setup(self) -> None:
        self._models = Models(self._paths, self._floors, self._channels)

    def process(self, element: tuple[str, int, str]) -> Iterator[tuple[str, Table]]:
        split, index, file = element
        write = Lines(split, self._layout)
        with _part(self._place, split, index).open("w") as lines:
            for table, size in self._models.score(file):
                lines.write(write(table, *size))
                yield split, table

    def teardown(self) -> None:
        del self._models


class _Combine(beam.CombineFn):
    """Tables to their sums and a sample of them."""

    def create_accumulator(self) -> tuple[Sums, Sample]:
        return Sums(), Sample()

    def add_input(self, accumulator: tuple[Sums, Sample], table: Table) -> tuple[Sums, Sample]:
        for part in accumulator:
            part.add(table)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[tuple[Sums, Sample]]) -> Any:
        sums, sample = self.create_accumulator()
        for other_sums, other_sample in accumulators:
            sums.merge(other_sums)
            sample.merge(other_sample)
        return sums, sample

    def extract_output(self, accumulator: tuple[Sums, Sample]) -> Scores:
        sums, sample = accumulator
        return Scores(sums, sample.table())


def _keep(item: tuple[str, Scores], place: Path) -> None:
    split, scores = item
    (place / split).write_bytes(pickle.dumps(scores))


def _kept(file: Path) -> Scores:
    return pickle.loads(file.read_bytes())


def _part(place: Path, split: str, index: int) -> Path:
    return place / f"{SPLITS.index(split)}-{index:05d}.jsonl"


def _join(parts: Iterable[Path], whole: Path) -> None:
    with whole.open("wb") as target:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, target)
