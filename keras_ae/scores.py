"""Scores of images: exact sums over all, a table for statistics; and the files of a comparison."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

COMPARISON: Final = "comparison.json"
IMAGES: Final = "images.jsonl"
"""One line for each image, with its scores."""
PICTURES: Final = "pictures"
"""Folder of what the report shows, as `PICTURES_INDEX` in it lists."""
PICTURES_INDEX: Final = "pictures.json"

METRICS = ("mse", "psnr", "ssim", "ms_ssim")
FLOORS = ("patch_pca", "global_pca")
MODEL, BASELINE = "model", "baseline"
MOST = 10_000
"""Images of a split whose scores are kept one by one; sums are over all."""
ALL = ("", "")
"""The key of the sums that are over a whole split."""

_SHIFT = 44
# 100 dB as many times, shifted, are below 2^63.
_TOGETHER = 4096


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the columns of a matrix of scores mean.

    Attributes:
        budgets: epochs of the models.
        seeds: by ladder of models, "model" or "baseline", how many seeds it was trained with.
    """

    budgets: tuple[int, ...]
    seeds: Mapping[str, int]

    @property
    def width(self) -> int:
        """Number of columns: the PSNR of each floor, then metrics by ladder, seed and budget."""
        models = sum(self.seeds.values()) * len(self.budgets)
        return len(FLOORS) + models * len(METRICS)

    def floor(self, name: str) -> int:
        """The column of a floor's PSNR."""
        return FLOORS.index(name)

    def of(self, matrix: np.ndarray, ladder: str, metric: str) -> np.ndarray:
        """The scores of a ladder: of a matrix [..., width] a view [..., seeds, budgets]."""
        begin = len(FLOORS)
        for name, seeds in self.seeds.items():
            size = seeds * len(self.budgets) * len(METRICS)
            if name == ladder:
                part = matrix[..., begin : begin + size]
                shape = (*matrix.shape[:-1], seeds, len(self.budgets), len(METRICS))
                return part.reshape(shape)[..., METRICS.index(metric)]
            begin += size
        raise KeyError(ladder)


class Table(NamedTuple):
    """Scores of some images of a split.

    Attributes:
        sources: N names.
        digests: N strings of hexadecimal digits, equal where the encoded images are.
        slices: by what is sliced, the slice that each image is in, N strings.
        values: float32 [N, width]; NaN where a metric is not defined. See `Layout`.
    """

    sources: np.ndarray
    digests: np.ndarray
    slices: dict[str, np.ndarray]
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, rows: Any) -> "Table":
        """Some of its images."""
        slices = {by: column[rows] for by, column in self.slices.items()}
        return Table(self.sources[rows], self.digests[rows], slices, self.values[rows])


def table(
    sources: Sequence[str],
    digests: Sequence[str],
    slices: Mapping[str, Sequence[str]],
    values: np.ndarray,
) -> Table:
    """A table of plain sequences; see there."""
    names, hashes = (np.asarray(column, object) for column in (sources, digests))
    columns = {by: np.asarray(column, object) for by, column in slices.items()}
    return Table(names, hashes, columns, np.asarray(values, np.float32))


class Sums:
    """Sums and counts of columns, exact: any order of the images gives the same bits.

    Scores are added as whole multiples of 2^-44. NaN is left out, and counted.
    """

    def __init__(self) -> None:
        self._totals: dict[tuple[str, str], np.ndarray] = {}
        self._counts: dict[tuple[str, str], np.ndarray] = {}
        self._images: dict[tuple[str, str], int] = {}

    def add(self, some: Table) -> None:
        """Adds the scores of some images, to the whole and to the slices they are in."""
        for begin in range(0, len(some), _TOGETHER):
            self._add_part(some.take(slice(begin, begin + _TOGETHER)))

    def _add_part(self, some: Table) -> None:
        finite = np.isfinite(some.values)
        fixed = np.where(finite, some.values, 0.0).astype(np.float64) * 2.0**_SHIFT
        whole = np.rint(fixed).astype(np.int64)
        self._add(ALL, len(some), whole.sum(0), finite.sum(0))
        for by, column in some.slices.items():
            for value in sorted(set(column)):
                rows = column == value
                self._add((by, value), int(rows.sum()), whole[rows].sum(0), finite[rows].sum(0))

    def merge(self, other: "Sums") -> None:
        """Adds what another one has added up."""
        for key, images in other._images.items():
            self._add(key, images, other._totals[key], other._counts[key])

    def _add(self, key: tuple[str, str], images: int, total: np.ndarray, count: np.ndarray) -> None:
        # Integers of Python do not overflow.
        exact = total.astype(object)
        self._totals[key] = self._totals[key] + exact if key in self._totals else exact
        self._counts[key] = self._counts[key] + count if key in self._counts else count
        self._images[key] = self._images.get(key, 0) + images

    def listed(self) -> list[list[Any]]:
        """All of it as what JSON can hold; the integers have any size."""
        return [
            [*key, images, self._totals[key].tolist(), self._counts[key].tolist()]
            for key, images in self._images.items()
        ]

    @classmethod
    def of(cls, listed: Iterable[Sequence[Any]]) -> "Sums":
        """The sums that `listed` gave."""
        sums = cls()
        for by, value, images, totals, counts in listed:
            sums._add((by, value), images, np.asarray(totals, object), np.asarray(counts, np.int64))
        return sums

    @property
    def keys(self) -> list[tuple[str, str]]:
        """What was sliced and the slice, sorted; ("", "") is the whole."""
        return sorted(self._images)

    def images(self, key: tuple[str, str] = ALL) -> int:
        """Number of images, those with NaN too."""
        return self._images.get(key, 0)

    def count(self, key: tuple[str, str] = ALL) -> np.ndarray:
        """int64 [width]: images with a value, of each column."""
        return self._counts[key]

    def mean(self, key: tuple[str, str] = ALL) -> np.ndarray:
        """float64 [width]; NaN where no image has a value."""
        pairs = zip(self._totals[key], self._counts[key])
        # The division of two integers of any size is rounded once.
        return np.array([int(t) / (int(n) << _SHIFT) if n else np.nan for t, n in pairs])


class Sample:
    """Keeps the images with the lowest digests: as good as drawn, and the same in any order."""

    def __init__(self, most: int = MOST) -> None:
        self._most, self._parts = most, [_none()]

    def add(self, some: Table) -> None:
        """Adds images; holds at most three times as many as are kept, or one addition more."""
        self._parts.append(some)
        if sum(map(len, self._parts)) > 3 * self._most:
            self._parts = [self.table()]

    def merge(self, other: "Sample") -> None:
        """Adds the images that another one keeps."""
        self.add(other.table())

    def table(self) -> Table:
        """The images that are kept, in the order of their names."""
        whole = concatenate(self._parts)
        order = np.lexsort((whole.sources.astype(str), whole.digests.astype(str)))[: self._most]
        kept = whole.take(order)
        return kept.take(np.argsort(kept.sources.astype(str), kind="stable"))


def concatenate(tables: Iterable[Table]) -> Table:
    """One table of several; those without images say nothing of the columns."""
    parts = [part for part in tables if len(part)]
    if not parts:
        return _none()
    sources, digests, values = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("sources", "digests", "values")
    )
    slices = {by: np.concatenate([part.slices[by] for part in parts]) for by in parts[0].slices}
    return Table(sources, digests, slices, values)


def _none() -> Table:
    return table([], [], {}, np.zeros((0, 0), np.float32))
