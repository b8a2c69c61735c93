"""The numbers of a comparison as points over epochs, for tools that draw them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from keras_ae.contract import SPLITS
from keras_ae.scores import BASELINE, MODEL

METRICS = ("psnr", "ssim", "ms_ssim")
GAIN = "gain_over_floor"


class Point(NamedTuple):
    """A mean over the images of a split.

    Attributes:
        kind: of what: "model", "baseline" or a floor, "patch_pca" or "global_pca".
        split: train, val or test.
        metric: "psnr" or "gain_over_floor" (dB), "ssim" or "ms_ssim".
        epochs: of the budget; a floor has the same value at each.
        value: the mean.
    """

    kind: str
    split: str
    metric: str
    epochs: int
    value: float


def points(comparison: Mapping[str, Any]) -> Iterator[Point]:
    """Yields all that is defined.

    Args:
        comparison: what `keras_ae.comparison.compare.compare` gives.
    """
    yield from _of_ladder(MODEL, comparison["budgets"])
    if comparison["baseline"]:
        yield from _of_ladder(BASELINE, comparison["baseline"]["budgets"])
    for kind, floor in comparison["floors"].items():
        for split, entry in (floor["splits"] or {}).items():
            for budget in comparison["budgets"]:
                if entry["mean"] is not None:
                    yield Point(kind, split, "psnr", budget["epochs"], entry["mean"])


def _of_ladder(kind: str, budgets: Sequence[Mapping[str, Any]]) -> Iterator[Point]:
    for budget in budgets:
        for split in SPLITS:
            summary = budget["splits"][split]
            for metric in (*METRICS, GAIN):
                if summary[metric]["mean"] is not None:
                    yield Point(kind, split, metric, budget["epochs"], summary[metric]["mean"])
