"""Intervals and tests on scores of images: bootstrap, Wilcoxon, seeds beside images."""

import math
from collections.abc import Sequence
from functools import cached_property
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from scipy import stats

LEAST = 8
"""Images below which no interval and no test is given."""
LEVEL = 0.95
_NORMAL = NormalDist()
_BLOCK = 4_000_000

Interval = tuple[float, float]


class Bootstrap:
    """Resamples of images, the same ones for all that is computed from their scores.

    Whatever is linear in the means of columns has its resamples as the same combination of
    `replicates`, so that all differences are paired. BCa intervals are those of Efron 1987,
    "Better Bootstrap Confidence Intervals", with the acceleration in closed form for a mean.

    Args:
        values: float [N, K], a row for each image; NaN is left out of its column's means.
        most: resamples; there are fewer where there are more than 500 images, but not fewer than
            2,000.
        seed: of the resamples.

    >>> scores = np.random.default_rng(0).normal([30.0, 31.0], 0.1, (20, 2))  # of two models
    >>> low, high = Bootstrap(scores).interval([-1, 1])  # of the second's gain over the first
    >>> bool(0.9 < low < high < 1.1)
    True
    """

    def __init__(self, values: np.ndarray, most: int = 10_000, seed: int = 0):
        self.values = np.asarray(values, np.float64)
        self.resamples = min(most, max(2_000, 5_000_000 // max(len(self.values), 1)))
        self._seed = seed

    @cached_property
    def means(self) -> np.ndarray:
        """float64 [K]; NaN where no image has a value."""
        return mean(self.values)

    @cached_property
    def replicates(self) -> np.ndarray:
        """float64 [resamples, K]: the means of each resample."""
        count = len(self.values)
        # Around the means, float32 products lose nothing that an interval could show.
        centred = np.nan_to_num(self.values - self.means).astype(np.float32)
        known = np.isfinite(self.values).astype(np.float32)
        ragged = not known.all()
        rng = np.random.default_rng(self._seed)
        parts = []
        step = max(1, _BLOCK // count)
        for begin in range(0, self.resamples, step):
            rows = min(step, self.resamples - begin)
            drawn = rng.integers(0, count, (rows, count), dtype=np.int32)
            drawn += np.arange(rows, dtype=np.int32)[:, None] * count
            weights = np.bincount(drawn.ravel(), minlength=rows * count)
            weights = weights.reshape(rows, count).astype(np.float32)
            total = weights @ known if ragged else np.float32(count)
            parts.append((weights @ centred) / np.maximum(total, 1))
        return np.concatenate(parts).astype(np.float64) + self.means

    def interval(
        self, weights: Sequence[float] | np.ndarray, level: float = LEVEL
    ) -> Interval | None:
        """The BCa interval of a linear combination of the columns' means.

        Args:
            weights: of the columns, [K].
            level: what part of such intervals is to hold the truth.

        Returns:
            Its ends, or None for fewer than 8 images with a value in all of these columns.
        """
        weights = np.asarray(weights, np.float64)
        used = np.flatnonzero(weights)
        each = self.values[:, used] @ weights[used]
        each = each[np.isfinite(each)]
        if len(each) < LEAST:
            return None
        replicates = self.replicates[:, used] @ weights[used]
        return bca(replicates, float(self.means[used] @ weights[used]), each, level)


def bca(
    replicates: np.ndarray, estimate: float, each: np.ndarray, level: float = LEVEL
) -> Interval:
    """The bias-corrected and accelerated interval of a mean (Efron 1987).

    Args:
        replicates: float [B], the estimate on each resample.
        estimate: on the images themselves.
        each: float [N], what each image contributes.
        level: 0 to 1.
    """
    deviations = each - each.mean()
    spread = float(np.square(deviations).sum())
    if spread <= 1e-18 * max(1.0, float(np.square(each).sum())):
        return (estimate, estimate)
    acceleration = float((deviations**3).sum()) / (6.0 * spread**1.5)
    # Float32 noise around a tie must not decide the side.
    below = np.mean(replicates < estimate - 1e-9) + np.mean(replicates <= estimate + 1e-9)
    share = min(max(float(below) / 2, 0.5 / len(replicates)), 1 - 0.5 / len(replicates))
    bias = _NORMAL.inv_cdf(share)

    def adjusted(tail: float) -> float:
        shifted = bias + _NORMAL.inv_cdf(tail)
        return _NORMAL.cdf(bias + shifted / (1.0 - acceleration * shifted))

    tails = ((1 - level) / 2, (1 + level) / 2)
    low, high = np.quantile(replicates, [adjusted(tail) for tail in tails])
    return (float(low), float(high))


def percentile(replicates: np.ndarray, level: float = LEVEL) -> Interval:
    """The plain interval of resamples, where no image contributes on its own."""
    low, high = np.quantile(replicates, ((1 - level) / 2, (1 + level) / 2))
    return (float(low), float(high))


def wilcoxon(differences: np.ndarray) -> float | None:
    """The p-value of Wilcoxon's signed-rank test, two-sided.

    Args:
        differences: of pairs, float [N]; NaN is left out.

    Returns:
        None for fewer than 8 images; 1 where all differences are 0.
    """
    kept = differences[np.isfinite(differences)]
    if len(kept) < LEAST:
        return None
    if not kept.any():
        return 1.0
    return float(stats.wilcoxon(kept).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, each adjusted so that all hold together (Holm 1979).

    >>> [round(p, 6) for p in holm([0.01, 0.04, 0.5])]
    [0.03, 0.08, 0.5]
    """
    adjusted, worst, count = [0.0] * len(p_values), 0.0, len(p_values)
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        worst = max(worst, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def fell(differences: np.ndarray) -> float:
    """The p-value of a one-sided paired t-test that images got worse; 1 for fewer than 8."""
    kept = differences[np.isfinite(differences)]
    if len(kept) < LEAST:
        return 1.0
    if np.ptp(kept) == 0:
        return 0.0 if kept[0] < 0 else 1.0
    return float(stats.ttest_1samp(kept, 0.0, alternative="less").pvalue)


class Components(NamedTuple):
    """Where the scores of the same images by models of several seeds differ.

    Attributes:
        images, seeds, rest: standard deviations; `rest` is what is left for each pair.
        over_images: interval of the mean as if there were no other seeds, or None.
        over_both: interval of the mean over other images and other seeds, or None.
    """

    images: float
    seeds: float
    rest: float
    over_images: Interval | None
    over_both: Interval | None


def components(scores: np.ndarray, level: float = LEVEL) -> Components | None:
    """Splits the variance of scores in that between images, between seeds, and the rest.

    Two-way analysis of variance with random effects and one score for each pair; the interval over
    both has Student's t with the degrees of freedom of Satterthwaite 1946. With three seeds it is
    wide where seeds differ: three draws say little of the next one.

    Args:
        scores: float [N, S] of N images and S seeds; images with NaN are left out.

    Returns:
        None for fewer than two seeds or two images. No interval for fewer than 8 images.
    """
    scores = scores[np.isfinite(scores).all(1)]
    count, seeds = scores.shape
    if seeds < 2 or count < 2:
        return None
    grand, rows, columns = scores.mean(), scores.mean(1), scores.mean(0)
    freedom = (count - 1, seeds - 1, (count - 1) * (seeds - 1))
    residual = scores - rows[:, None] - columns[None, :] + grand
    squares = (
        seeds * np.square(rows - grand).sum() / freedom[0],
        count * np.square(columns - grand).sum() / freedom[1],
        np.square(residual).sum() / freedom[2],
    )
    between_images = max(0.0, (squares[0] - squares[2]) / seeds)
    between_seeds = max(0.0, (squares[1] - squares[2]) / count)
    over_images = over_both = None
    if count >= LEAST:
        over_images = Bootstrap(rows[:, None]).interval([1.0], level)
        variance = between_images / count + between_seeds / seeds + squares[2] / (count * seeds)
        parts = [square / (count * seeds) for square in squares]
        total = sum(part**2 / n for part, n in zip(parts, freedom))
        degrees = max(variance**2 / total, 1.0) if total > 0 else 1.0
        reach = float(stats.t.ppf((1 + level) / 2, degrees)) * math.sqrt(variance)
        over_both = (float(grand) - reach, float(grand) + reach)
    parts = [math.sqrt(v) for v in (between_images, between_seeds, squares[2])]
    return Components(parts[0], parts[1], parts[2], over_images, over_both)


def mean(values: np.ndarray) -> np.ndarray:
    """Means of the columns [..., K] of [N, K] without NaN; NaN where nothing is left."""
    known = np.isfinite(values)
    count = known.sum(0)
    total = np.where(known, values, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
