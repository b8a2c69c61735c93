"""Which slices a page shows first, and how their changes are drawn."""

from collections.abc import Iterable
from typing import NamedTuple

from keras_ae.comparison.records import Comparison, Estimate, Slice

AT_ONCE = 24
"""Slices up to this number are shown together."""
WORST = 10
"""Of more, so many of those with the lowest gain over the floor are shown beside the flagged."""


class Scale(NamedTuple):
    """Ends of an axis in the unit of what is drawn; it has room for zero."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Where a value lies, in per cent of the axis."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def scale(estimates: Iterable[Estimate]) -> Scale:
    """A scale that holds zero and all means and intervals."""
    values = [0.0]
    for estimate in estimates:
        if estimate.mean is not None:
            values += [estimate.mean, *(estimate.interval or ())]
    low, high = min(values), max(values)
    spare = 0.04 * (high - low) or 1.0
    return Scale(low - spare, high + spare)


class Slices(NamedTuple):
    """Rows of slices.

    Attributes:
        first: those that a reader should see.
        rest: the others.
        worse: which became worse: what is sliced, and the slice.
        at: place of the chosen budget in their lists.
        scale: for drawing their changes.
    """

    first: list[Slice]
    rest: list[Slice]
    worse: frozenset[tuple[str, str]]
    at: int
    scale: Scale


def order(comparison: Comparison) -> Slices:
    """Sorts the slices of a comparison for showing: all as they are if they are few, else those
    that became worse and those with the lowest gain over the floor first."""
    rows = list(comparison.slices.rows)
    worse = frozenset((entry.by, entry.value) for entry in comparison.slices.worse)
    at = comparison.budgets.index(comparison.chosen_budget)
    size = scale(row.change for row in rows)
    if len(rows) <= AT_ONCE:
        return Slices(rows, [], worse, at, size)
    judged = [row for row in rows if row.images >= comparison.slices.least]
    ranked = sorted(judged, key=_gain)
    named = {(row.by, row.value) for row in ranked[:WORST]} | worse
    first = [row for row in rows if (row.by, row.value) in named]
    first.sort(key=lambda row: ((row.by, row.value) not in worse, _gain(row)))
    rest = [row for row in rows if (row.by, row.value) not in named]
    return Slices(first, rest, worse, at, size)


def _gain(row: Slice) -> float:
    return float("inf") if row.gain_over_floor is None else row.gain_over_floor
