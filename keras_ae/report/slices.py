"""Orders the slices of a page, and scales the marks of their changes."""

from collections.abc import Iterable
from typing import NamedTuple

from keras_ae.comparison.records import Comparison, Estimate, Slice

MAX_UNFOLDED = 24
"""Up to this number, all slices are visible."""
WORST = 10
"""Of more slices, this many with the lowest gain over the floor are visible, and worse ones."""


class Scale(NamedTuple):
    """The ends of an axis that includes zero."""

    low: float
    high: float

    def percent(self, value: float) -> float:
        """The position of a value on the axis, in per cent."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def scale(estimates: Iterable[Estimate]) -> Scale:
    """A scale that includes zero and all means and intervals."""
    values = [0.0]
    for estimate in estimates:
        if estimate.mean is not None:
            values += [estimate.mean, *(estimate.interval or ())]
    low, high = min(values), max(values)
    padding = 0.04 * (high - low) or 1.0
    return Scale(low - padding, high + padding)


class Slices(NamedTuple):
    """The slices of a page: visible and folded ones, attribute and value of those that lose PSNR,
    the index of the chosen budget in their lists, and the scale of the marks of their changes."""

    first: list[Slice]
    rest: list[Slice]
    worse: frozenset[tuple[str, str]]
    chosen_index: int
    scale: Scale


def order_slices(comparison: Comparison) -> Slices:
    """Orders the slices of a comparison. If there are many, those that lose PSNR and those with the
    lowest gain over the floor come first."""
    rows = list(comparison.slices.rows)
    worse = frozenset((entry.by, entry.value) for entry in comparison.slices.worse)
    visible = {(row.by, row.value) for row in rows}
    if len(rows) > MAX_UNFOLDED:
        tested = [row for row in rows if row.images >= comparison.slices.least]
        visible = {(row.by, row.value) for row in sorted(tested, key=_gain)[:WORST]} | worse
        rows.sort(key=lambda row: ((row.by, row.value) not in worse, _gain(row)))
    first = [row for row in rows if (row.by, row.value) in visible]
    rest = [row for row in comparison.slices.rows if (row.by, row.value) not in visible]
    chosen_index = comparison.budgets.index(comparison.chosen_budget)
    return Slices(first, rest, worse, chosen_index, scale(row.change for row in rows))


def _gain(row: Slice) -> float:
    return float("inf") if row.gain_over_floor is None else row.gain_over_floor
