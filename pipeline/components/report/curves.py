"""The means of a comparison as points over epochs, for tools that plot them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from keras_ae.comparison.records import Budget, Comparison
from keras_ae.scores import BASELINE, MODEL


class Point(NamedTuple):
    """A mean over the images of a split: "psnr" or "gain_over_floor" (dB), "ssim" or "ms_ssim", of
    "model", "baseline", or a floor, which has the same value at each budget."""

    kind: str
    split: str
    metric: str
    epochs: int
    value: float


def points(comparison: Comparison) -> Iterator[Point]:
    """Yields all means that are defined."""
    yield from _ladder_points(MODEL, comparison.budgets)
    if comparison.baseline:
        yield from _ladder_points(BASELINE, comparison.baseline.budgets)
    for kind, floor in comparison.floors:
        for split, entry in floor.splits.items() if floor.splits else ():
            for budget in comparison.budgets:
                if entry.mean is not None:
                    yield Point(kind, split, "psnr", budget.epochs, entry.mean)


def _ladder_points(kind: str, budgets: Sequence[Budget]) -> Iterator[Point]:
    for budget in budgets:
        for split, summary in budget.splits.items():
            for metric in ("psnr", "ssim", "ms_ssim", "gain_over_floor"):
                if (mean := getattr(summary, metric).mean) is not None:
                    yield Point(kind, split, metric, budget.epochs, mean)
