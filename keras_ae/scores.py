"""Scores of images: exact sums, tables for statistics, and names of the files of a comparison."""

import dataclasses
import operator
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, Final, NamedTuple

import numpy as np

COMPARISON: Final = "comparison.json"
IMAGES: Final = "images.jsonl"
"""File with one line per image, which has its scores."""
PICTURES: Final = "pictures"
"""Folder with the images of the report, which `PICTURES_INDEX` in it lists."""
PICTURES_INDEX: Final = "pictures.json"

METRICS = ("mse", "psnr", "ssim", "ms_ssim")
FLOORS = ("patch_pca", "global_pca")
MODEL, BASELINE = "model", "baseline"
MAX_SAMPLE_IMAGES = 10_000
"""Images of a split that are kept for statistics; sums are over all images."""
ALL = ("", "")
"""The key of the sums over a whole split."""

_SHIFT = 44
# 4096 scores of 100 dB, shifted by 44 bits, add up to less than 2^63.
_ROWS_PER_SUM = 4096


@dataclasses.dataclass(frozen=True)
class Layout:
    """The layout of the columns of a matrix of scores: the budgets of the models in epochs, and the
    number of seeds by ladder, "model" or "baseline"."""

    budgets: tuple[int, ...]
    seeds: Mapping[str, int]

    @property
    def width(self) -> int:
        """Number of columns: PSNR of each floor, then metrics by ladder, seed and budget."""
        models = sum(self.seeds.values()) * len(self.budgets)
        return len(FLOORS) + models * len(METRICS)

    def floor_column(self, name: str) -> int:
        """The index of the column with a floor's PSNR."""
        return FLOORS.index(name)

    def select(self, matrix: np.ndarray, ladder: str, metric: str) -> np.ndarray:
        """The scores of a ladder in a matrix [..., width], as a view [..., seeds, budgets]."""
        columns = len(self.budgets) * len(METRICS)
        before = takewhile(lambda name: name != ladder, self.seeds)
        begin = len(FLOORS) + columns * sum(self.seeds[name] for name in before)
        part = matrix[..., begin : begin + columns * self.seeds[ladder]]
        shape = (*matrix.shape[:-1], self.seeds[ladder], len(self.budgets), len(METRICS))
        return part.reshape(shape)[..., METRICS.index(metric)]


class Table(NamedTuple):
    """Scores of N images of a split.

    Attributes:
        sources: N names.
        digests: N strings of hexadecimal digits, equal for equal encoded images.
        slices: by attribute, such as "label", its value for each image, N strings.
        values: float32 [N, width], see `Layout`; NaN where a metric is not defined.
        pictures: N strings, equal for files of one picture; empty for an image without copies.
    """

    sources: np.ndarray
    digests: np.ndarray
    slices: dict[str, np.ndarray]
    values: np.ndarray
    pictures: np.ndarray

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, rows: Any) -> "Table":
        """Selects images by an index array, a mask or a slice."""
        slices = {by: column[rows] for by, column in self.slices.items()}
        sources, digests, _, values, pictures = self
        return Table(sources[rows], digests[rows], slices, values[rows], pictures[rows])


def make_table(
    sources: Sequence[str],
    digests: Sequence[str],
    slices: Mapping[str, Sequence[str]],
    values: np.ndarray,
    pictures: Sequence[str] | None = None,
) -> Table:
    """Makes a `Table` from plain sequences; without `pictures`, of images without copies."""
    groups = pictures if pictures is not None else [""] * len(sources)
    names, hashes, copied = (np.asarray(column, object) for column in (sources, digests, groups))
    columns = {by: np.asarray(column, object) for by, column in slices.items()}
    return Table(names, hashes, columns, np.asarray(values, np.float32), copied)


class _Sum(NamedTuple):
    """The number of images; by column the sum of scores, as Python's integers, and their number."""

    images: int
    totals: np.ndarray
    counts: np.ndarray


class Sums:
    """Exact sums and counts of columns, with the same bits for any order of the images.

    Scores are added as whole multiples of 2^-44. NaN is skipped, and counted.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], _Sum] = {}

    def add(self, table: Table) -> None:
        """Adds the scores of images to the sums of the split and of their slices."""
        for begin in range(0, len(table), _ROWS_PER_SUM):
            self._add_part(table.take(slice(begin, begin + _ROWS_PER_SUM)))

    def _add_part(self, table: Table) -> None:
        finite = np.isfinite(table.values)
        scaled = np.where(finite, table.values, 0.0).astype(np.float64) * 2.0**_SHIFT
        integers = np.rint(scaled).astype(np.int64)
        self._add(ALL, len(table), integers.sum(0), finite.sum(0))
        for by, column in table.slices.items():
            for value in sorted(set(column)):
                rows = column == value
                self._add((by, value), int(rows.sum()), integers[rows].sum(0), finite[rows].sum(0))

    def merge(self, other: "Sums") -> None:
        """Adds the sums of another object."""
        for key, part in other._sums.items():
            self._add(key, *part)

    def _add(self, key: tuple[str, str], images: int, total: np.ndarray, count: np.ndarray) -> None:
        # Python's integers do not overflow.
        part = _Sum(images, total.astype(object), count)
        before = self._sums.get(key)
        self._sums[key] = _Sum(*map(operator.add, before, part)) if before else part

    def to_list(self) -> list[list[Any]]:
        """Converts the sums to lists for JSON; the integers may be of any size."""
        return [
            [*key, images, total.tolist(), count.tolist()]
            for key, (images, total, count) in self._sums.items()
        ]

    @classmethod
    def from_list(cls, items: Iterable[Sequence[Any]]) -> "Sums":
        """Restores sums from the result of `to_list`."""
        sums = cls()
        for by, value, images, totals, counts in items:
            sums._add((by, value), images, np.asarray(totals, object), np.asarray(counts, np.int64))
        return sums

    @property
    def keys(self) -> list[tuple[str, str]]:
        """The sorted keys of all sums: attribute and value of a slice, or `ALL`."""
        return sorted(self._sums)

    def images(self, key: tuple[str, str] = ALL) -> int:
        """Number of images, including those with NaN."""
        return self._sums[key].images if key in self._sums else 0

    def count(self, key: tuple[str, str] = ALL) -> np.ndarray:
        """int64 [width]: number of images with a value in each column."""
        return self._sums[key].counts

    def mean(self, key: tuple[str, str] = ALL) -> np.ndarray:
        """float64 [width]: means; NaN where no image has a value."""
        pairs = zip(self._sums[key].totals, self._sums[key].counts)
        # Python rounds the quotient of two integers of any size once.
        return np.array([int(t) / (int(n) << _SHIFT) if n else np.nan for t, n in pairs])


class Sample:
    """A sample of images: those with the lowest digests, which no order of adding changes."""

    def __init__(self, max_images: int = MAX_SAMPLE_IMAGES) -> None:
        self._max_images = max_images
        self._parts: list[Table] = []

    def add(self, table: Table) -> None:
        """Adds images."""
        self._parts.append(table)
        # Sorting for each table would be slow; memory is bounded by three samples and one table.
        if sum(map(len, self._parts)) > 3 * self._max_images:
            self._parts = [self.table()]

    def merge(self, other: "Sample") -> None:
        """Adds the images of another sample."""
        self.add(other.table())

    def table(self) -> Table:
        """The images of the sample, ordered by name."""
        candidates = concatenate(self._parts)
        order = np.lexsort((candidates.sources.astype(str), candidates.digests.astype(str)))
        kept = candidates.take(order[: self._max_images])
        return kept.take(np.argsort(kept.sources.astype(str), kind="stable"))


class LargestCopies:
    """Keeps, of each picture that has several files, the scores of the largest one.

    Copies of a picture are no independent evidence, so that a picture counts once in statistics.
    Its largest file stands for it: the one that the others were made from, as far as is known.
    """

    def __init__(self) -> None:
        self._largest: dict[str, tuple[tuple[int, str, str], Table]] = {}

    def add(self, table: Table, pixels: int) -> Table:
        """Keeps the files of pictures with copies, and returns the other images.

        Args:
            table: scores of images of one size.
            pixels: number of pixels of each.
        """
        copied = table.pictures != ""
        for row in np.flatnonzero(copied):
            # Of equal sizes, the lowest digest and name, on which every order of adding agrees.
            key = -pixels, str(table.digests[row]), str(table.sources[row])
            self._keep(str(table.pictures[row]), key, table.take(slice(row, row + 1)))
        return table.take(~copied) if copied.any() else table

    def merge(self, other: "LargestCopies") -> None:
        """Adds the files that another object keeps."""
        for picture, (key, row) in other._largest.items():
            self._keep(picture, key, row)

    def table(self) -> Table:
        """The largest file of each picture."""
        return concatenate(self._largest[picture][1] for picture in sorted(self._largest))

    def _keep(self, picture: str, key: tuple[int, str, str], row: Table) -> None:
        if picture not in self._largest or key < self._largest[picture][0]:
            self._largest[picture] = key, row


def concatenate(tables: Iterable[Table]) -> Table:
    """Concatenates tables; the columns are those of the tables that have images."""
    parts = [part for part in tables if len(part)]
    if not parts:
        return make_table([], [], {}, np.zeros((0, 0)))
    sources, digests, slices, values, pictures = zip(*parts)
    return Table(
        np.concatenate(sources),
        np.concatenate(digests),
        {by: np.concatenate([columns[by] for columns in slices]) for by in slices[0]},
        np.concatenate(values),
        np.concatenate(pictures),
    )


def finite_or_none(value: Any) -> float | None:
    """A float for JSON, which has no NaN: None for NaN and infinity."""
    return None if value is None or not np.isfinite(value) else float(value)
