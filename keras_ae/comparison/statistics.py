"""Intervals and significance tests on scores of images: bootstrap, Wilcoxon, variance."""

import math
from collections.abc import Sequence
from functools import cached_property
from statistics import NormalDist

import numpy as np
from scipy import stats

from keras_ae.comparison.records import Estimate, Paired, Variance
from keras_ae.scores import finite_or_none

MIN_IMAGES = 8
"""Images that an interval or a significance test needs."""
CONFIDENCE_LEVEL = 0.95
_NORMAL = NormalDist()
_BLOCK_ELEMENTS = 4_000_000

Interval = tuple[float, float]


class Bootstrap:
    """Bootstrap resamples of images, shared by all columns of their scores.

    The resamples of a linear combination of column means are the same combination of `replicates`,
    so all differences are paired. BCa intervals follow Efron 1987, "Better Bootstrap Confidence
    Intervals", with the acceleration in closed form for a mean.

    Args:
        values: float [N, K], one row per image; column means ignore NaN.
        max_resamples: number of resamples; above 500 images there are fewer, at least 2,000.
        seed: seed of the resamples.

    >>> scores = np.random.default_rng(0).normal([30.0, 31.0], 0.1, (20, 2))  # of two models
    >>> low, high = Bootstrap(scores).interval([-1, 1])  # of the second's gain over the first
    >>> bool(0.9 < low < high < 1.1)
    True
    """

    def __init__(self, values: np.ndarray, max_resamples: int = 10_000, seed: int = 0):
        self.values = np.asarray(values, np.float64)
        self.resamples = min(max_resamples, max(2_000, 5_000_000 // max(len(self.values), 1)))
        self._seed = seed

    @cached_property
    def means(self) -> np.ndarray:
        """float64 [K]; NaN where no image has a value."""
        return column_means(self.values)

    @cached_property
    def replicates(self) -> np.ndarray:
        """float64 [resamples, K]: the means of each resample."""
        count = len(self.values)
        # Float32 is precise enough for deviations from the means.
        centred = np.nan_to_num(self.values - self.means).astype(np.float32)
        finite = np.isfinite(self.values).astype(np.float32)
        has_nan = not finite.all()
        rng = np.random.default_rng(self._seed)
        parts = []
        block = max(1, _BLOCK_ELEMENTS // count)
        for begin in range(0, self.resamples, block):
            rows = min(block, self.resamples - begin)
            drawn = rng.integers(0, count, (rows, count), dtype=np.int32)
            drawn += np.arange(rows, dtype=np.int32)[:, None] * count
            weights = np.bincount(drawn.ravel(), minlength=rows * count)
            weights = weights.reshape(rows, count).astype(np.float32)
            total = weights @ finite if has_nan else np.float32(count)
            parts.append((weights @ centred) / np.maximum(total, 1))
        replicates: np.ndarray = np.concatenate(parts).astype(np.float64) + self.means
        return replicates

    def interval(
        self, weights: Sequence[float] | np.ndarray, level: float = CONFIDENCE_LEVEL
    ) -> Interval | None:
        """The BCa interval of a linear combination of the columns' means, of nominal coverage
        `level`; None for fewer than 8 images with a value in all columns that are used."""
        contributions = combine(self.values, weights)
        contributions = contributions[np.isfinite(contributions)]
        if len(contributions) < MIN_IMAGES:
            return None
        estimate = float(combine(self.means, weights))
        return _bca_interval(combine(self.replicates, weights), estimate, contributions, level)


def combine(values: np.ndarray, weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """A linear combination of columns [..., K]. NaN in columns of weight 0 does not matter."""
    weights = np.asarray(weights, np.float64)
    used = np.flatnonzero(weights)
    combination: np.ndarray = values[..., used] @ weights[used]
    return combination


def _bca_interval(
    replicates: np.ndarray, estimate: float, contributions: np.ndarray, level: float
) -> Interval:
    """The bias-corrected and accelerated interval of a mean: estimates on resamples, the estimate
    itself, and the value of each image, whose mean is the estimate."""
    deviations = contributions - contributions.mean()
    sum_of_squares = float(np.square(deviations).sum())
    if sum_of_squares <= 1e-18 * max(1.0, float(np.square(contributions).sum())):
        return (estimate, estimate)
    acceleration = float((deviations**3).sum()) / (6.0 * sum_of_squares**1.5)
    # Rounding to float32 must not decide on which side of the estimate a tie is counted.
    below = np.mean(replicates < estimate - 1e-9) + np.mean(replicates <= estimate + 1e-9)
    share = min(max(float(below) / 2, 0.5 / len(replicates)), 1 - 0.5 / len(replicates))
    bias = _NORMAL.inv_cdf(share)

    def adjusted(tail: float) -> float:
        shifted = bias + _NORMAL.inv_cdf(tail)
        return _NORMAL.cdf(bias + shifted / (1.0 - acceleration * shifted))

    tails = ((1 - level) / 2, (1 + level) / 2)
    low, high = np.quantile(replicates, [adjusted(tail) for tail in tails])
    return (float(low), float(high))


def percentile_interval(replicates: np.ndarray) -> Interval:
    """The percentile interval of resamples, for estimates that are not a mean over images."""
    low, high = np.quantile(replicates, ((1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2))
    return (float(low), float(high))


def wilcoxon_p_value(differences: np.ndarray) -> float | None:
    """The two-sided p-value of Wilcoxon's signed-rank test on differences of pairs.

    NaN is ignored. The value is None for fewer than 8 images, and 1 where all differences are 0.
    """
    kept = differences[np.isfinite(differences)]
    if len(kept) < MIN_IMAGES:
        return None
    if not kept.any():
        return 1.0
    return float(stats.wilcoxon(kept).pvalue)


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values for the number of tests (Holm 1979).

    >>> [round(p, 6) for p in holm_adjusted([0.01, 0.04, 0.5])]
    [0.03, 0.08, 0.5]
    """
    adjusted, highest, count = [0.0] * len(p_values), 0.0, len(p_values)
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def decrease_p_value(differences: np.ndarray) -> float:
    """The p-value of a one-sided paired t-test for a decrease; 1 for fewer than 8 images."""
    kept = differences[np.isfinite(differences)]
    if len(kept) < MIN_IMAGES:
        return 1.0
    if np.ptp(kept) == 0:
        return 0.0 if kept[0] < 0 else 1.0
    return float(stats.ttest_1samp(kept, 0.0, alternative="less").pvalue)


def estimate(values: np.ndarray, max_resamples: int = 10_000) -> Estimate:
    """The mean of float [N] that ignores NaN, and its interval."""
    finite = values[np.isfinite(values)]
    return Estimate(
        mean=finite_or_none(finite.mean()) if len(finite) else None,
        interval=Bootstrap(values[:, None], max_resamples).interval([1.0]),
    )


def paired(differences: np.ndarray, max_resamples: int = 10_000) -> Paired:
    """The `estimate` of differences of pairs, with its p-value."""
    return Paired(
        **estimate(differences, max_resamples).model_dump(),
        wilcoxon_p=wilcoxon_p_value(differences),
        images=int(np.isfinite(differences).sum()),
    )


def variance_components(scores: np.ndarray) -> Variance:
    """Separates the variance of scores between images, between seeds, and the residual.

    This is a two-way analysis of variance with random effects and one score per pair. The interval
    over images and seeds uses Student's t with the degrees of freedom of Satterthwaite 1946. With
    three seeds that differ, it is wide: three draws are a weak estimate of the spread of seeds.

    Args:
        scores: float [N, S] of N images and S seeds; images with NaN are ignored.

    Returns:
        The mean alone for fewer than two seeds or two images. No interval for fewer than 8 images.
    """
    scores = scores[np.isfinite(scores).all(1)]
    mean = finite_or_none(scores.mean()) if len(scores) else None
    count, seeds = scores.shape
    if seeds < 2 or count < 2:
        return Variance.model_validate({**dict.fromkeys(Variance.model_fields), "mean": mean})
    scores = scores.astype(np.float64)
    grand, rows, columns = scores.mean(), scores.mean(1), scores.mean(0)
    degrees_of_freedom = (count - 1, seeds - 1, (count - 1) * (seeds - 1))
    residual = scores - rows[:, None] - columns[None, :] + grand
    mean_squares = (
        seeds * np.square(rows - grand).sum() / degrees_of_freedom[0],
        count * np.square(columns - grand).sum() / degrees_of_freedom[1],
        np.square(residual).sum() / degrees_of_freedom[2],
    )
    between_images = max(0.0, (mean_squares[0] - mean_squares[2]) / seeds)
    between_seeds = max(0.0, (mean_squares[1] - mean_squares[2]) / count)
    interval = None
    if count >= MIN_IMAGES:
        variance = (
            between_images / count + between_seeds / seeds + mean_squares[2] / (count * seeds)
        )
        parts = [square / (count * seeds) for square in mean_squares]
        total = sum(part**2 / n for part, n in zip(parts, degrees_of_freedom))
        degrees = max(variance**2 / total, 1.0) if total > 0 else 1.0
        half_width = float(stats.t.ppf((1 + CONFIDENCE_LEVEL) / 2, degrees)) * math.sqrt(variance)
        interval = (float(grand) - half_width, float(grand) + half_width)
    return Variance(
        mean=mean,
        image_sd=math.sqrt(between_images),
        seed_sd=math.sqrt(between_seeds),
        rest_sd=math.sqrt(mean_squares[2]),
        images_interval=Bootstrap(rows[:, None]).interval([1.0]),
        interval=interval,
    )


def column_means(values: np.ndarray) -> np.ndarray:
    """Means of the columns of [N, K] that ignore NaN; NaN for a column without a value."""
    finite = np.isfinite(values)
    count = finite.sum(0)
    total = np.where(finite, values, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
