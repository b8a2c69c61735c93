"""The images of one split: means over all of them, intervals over those in the table."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from keras_ae.comparison import statistics
from keras_ae.comparison.records import Difference, Estimate, Metric, Paired, Summary
from keras_ae.comparison.statistics import Bootstrap, Interval, combine
from keras_ae.scores import ALL, FLOORS, METRICS, MODEL, Layout, Sums, Table, finite_or_none

Column = tuple[str, str, int]
"""A ladder, a metric and a budget, averaged over seeds; or a floor, "psnr" and 0."""
Terms = Mapping[Column, float]
"""A linear combination: weights by column."""
Model = tuple[str, int]
"""A ladder and a budget."""


def psnr_gain(after: int, before: int) -> Terms:
    """The PSNR of the model at a budget minus that at another one."""
    return {(MODEL, "psnr", after): 1.0, (MODEL, "psnr", before): -1.0}


def over_floor(ladder: str, budget: int) -> Terms:
    """The PSNR of a model minus that of patch PCA."""
    return {(ladder, "psnr", budget): 1.0, ("patch_pca", "psnr", 0): -1.0}


class Split:
    """Means, intervals and differences of the scores of a split's images.

    Args:
        sums: sums over all images.
        table: scores of all images, or of a sample; everything but means is computed from it.
        layout: layout of the columns of both.
        seed: seed of the resamples; each split needs its own, so that resamples are independent.
    """

    def __init__(self, sums: Sums, table: Table, layout: Layout, seed: int = 0):
        self.table, self.layout, self.image_count = table, layout, sums.images()
        self.names: list[Column] = [(floor, "psnr", 0) for floor in FLOORS]
        self.names += [
            (ladder, metric, budget)
            for ladder in layout.seeds
            for metric in METRICS
            for budget in layout.budgets
        ]
        self._index = {name: i for i, name in enumerate(self.names)}
        self._sums, self.exact_means = sums, sums.mean()
        self._counts = self._mean_over_seeds(sums.count())
        self.bootstrap = Bootstrap(self._mean_over_seeds(table.values), seed=seed)

    def _mean_over_seeds(self, matrix: np.ndarray) -> np.ndarray:
        """Maps a matrix [..., width] of scores to the columns `names`, [..., len(names)]."""
        matrix = np.asarray(matrix, np.float64)
        parts = [matrix[..., : len(FLOORS)]]
        for ladder in self.layout.seeds:
            parts += [self.layout.select(matrix, ladder, metric).mean(-2) for metric in METRICS]
        return np.concatenate(parts, -1)

    def means(self, key: tuple[str, str] = ALL) -> np.ndarray:
        """The exact means over all images of the split or of one slice, in the order of `names`."""
        return self._mean_over_seeds(self._sums.mean(key))

    def mean(self, column: Column) -> float | None:
        """One of the `means`; None where no image has a value."""
        return finite_or_none(self.means()[self._index[column]])

    def count(self, key: tuple[str, str]) -> int:
        """Number of images of a slice."""
        return self._sums.images(key)

    def skipped(self, column: Column) -> int:
        """Number of images for which a column is not defined."""
        return self.image_count - int(self._counts[self._index[column]])

    @cached_property
    def psnr_by_budget(self) -> dict[int, float]:
        """Mean PSNR of the model in dB at each budget."""
        return {b: self.mean((MODEL, "psnr", b)) or 0.0 for b in self.layout.budgets}

    def cheapest_budget(self, tolerance: float) -> int:
        """The smallest budget whose mean PSNR is within `tolerance` dB of the best."""
        psnr = self.psnr_by_budget
        # Rounding must not exclude a budget that is exactly `tolerance` below the best.
        return next(b for b in psnr if psnr[b] >= max(psnr.values()) - tolerance - 1e-9)

    def per_image(self, terms: Terms) -> np.ndarray:
        """float64 [N]: a combination of columns for every image of the table."""
        return combine(self.bootstrap.values, self._weights(terms))

    def replicates(self, terms: Terms) -> np.ndarray | None:
        """The mean of a combination in each resample; None for fewer than 8 images."""
        if int(np.isfinite(self.per_image(terms)).sum()) < statistics.MIN_IMAGES:
            return None
        return combine(self.bootstrap.replicates, self._weights(terms)) + self._shift(terms)

    def estimate(self, terms: Terms) -> Estimate:
        """Mean and interval of a combination of columns."""
        return Estimate(
            mean=finite_or_none(self._exact_mean(terms)), interval=self._interval(terms)
        )

    def difference(self, first: Model, second: Model) -> Difference:
        """The second model minus the first, in PSNR and in SSIM."""
        (before, old), (after, new) = first, second

        def paired(metric: str) -> Paired:
            column = after, metric, new
            terms = {column: 1.0, (before, metric, old): -1.0}
            return Paired(
                **self.estimate(terms).model_dump(),
                wilcoxon_p=statistics.wilcoxon_p_value(self.per_image(terms)),
                images=self.image_count - self.skipped(column),
            )

        return Difference(psnr=paired("psnr"), ssim=paired("ssim"))

    def summary(self, ladder: str, budget: int) -> Summary:
        """The quality of a budget's model: every metric, and the gain over the linear floor."""
        metrics = {metric: self._metric((ladder, metric, budget)) for metric in METRICS}
        gain = self.estimate(over_floor(ladder, budget))
        return Summary(images=self.image_count, **metrics, gain_over_floor=gain)

    def _metric(self, column: Column) -> Metric:
        terms = {column: 1.0}
        values = self.per_image(terms)
        ascending = np.sort(values[np.isfinite(values)])
        worst_first = ascending[::-1] if column[1] == "mse" else ascending
        worst_decile = worst_first[: -(-len(ascending) // 10)]
        return Metric(
            **self.estimate(terms).model_dump(),
            median=finite_or_none(np.median(ascending)) if len(ascending) else None,
            worst_decile=finite_or_none(worst_decile.mean()) if len(ascending) else None,
            skipped=self.skipped(column),
        )

    def _interval(self, terms: Terms) -> Interval | None:
        interval = self.bootstrap.interval(self._weights(terms))
        if interval is None or self.image_count == len(self.table):
            return interval
        shift = self._shift(terms)
        return (interval[0] + shift, interval[1] + shift)

    def _shift(self, terms: Terms) -> float:
        """The mean over all images minus that over the table, where the table is a sample."""
        if self.image_count == len(self.table):
            return 0.0
        return self._exact_mean(terms) - float(np.nanmean(self.per_image(terms)))

    def _exact_mean(self, terms: Terms) -> float:
        return float(combine(self.means(), self._weights(terms)))

    def _weights(self, terms: Terms) -> np.ndarray:
        """A linear combination of columns as a vector over `names`."""
        weights = np.zeros(len(self.names))
        weights[[self._index[column] for column in terms]] = list(terms.values())
        return weights
