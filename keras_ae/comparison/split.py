"""The images of one split: means over all of them, intervals over those that were kept."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ae.comparison import statistics
from keras_ae.comparison.records import Difference, Estimate, Metric, Paired, Summary
from keras_ae.comparison.statistics import LEVEL, Bootstrap, Interval
from keras_ae.scores import ALL, FLOORS, METRICS, Layout, Sums, Table

Column = tuple[str, str, int]
"""A ladder, a metric and a budget; or a floor, "psnr" and 0. Of several seeds, their mean."""
Terms = Mapping[Column, float]
Model = tuple[str, int]
"""A ladder and a budget."""
_WORST_IS_HIGH = ("mse",)


class Split:
    """Means, intervals and differences of the scores of a split's images.

    Args:
        sums: over all images.
        table: of some or all of them; everything but a mean comes from it.
        layout: of the columns of both.
        seed: of the resamples: those of two splits must not go together.
    """

    def __init__(self, sums: Sums, table: Table, layout: Layout, seed: int = 0):
        self.table, self.layout, self.images = table, layout, sums.images()
        self.names: list[Column] = [(floor, "psnr", 0) for floor in FLOORS]
        self.names += [
            (ladder, metric, budget)
            for ladder in layout.seeds
            for metric in METRICS
            for budget in layout.budgets
        ]
        self._at = {name: place for place, name in enumerate(self.names)}
        self._sums, self.exact = sums, sums.mean()
        self.bootstrap = Bootstrap(self.over_seeds(table.values), seed=seed)

    def over_seeds(self, matrix: np.ndarray) -> np.ndarray:
        """The columns `names` of a matrix [..., width] of scores: means over the seeds."""
        matrix = np.asarray(matrix, np.float64)
        parts = [matrix[..., : len(FLOORS)]]
        for ladder in self.layout.seeds:
            parts += [self.layout.of(matrix, ladder, metric).mean(-2) for metric in METRICS]
        return np.concatenate(parts, -1)

    def means(self, key: tuple[str, str] = ALL) -> np.ndarray:
        """The exact means over all images of the split or of a slice of it, by `names`."""
        return self.over_seeds(self._sums.mean(key))

    def mean(self, column: Column, key: tuple[str, str] = ALL) -> float | None:
        """One of the `means`; None where no image has a value."""
        return number(self.means(key)[self._at[column]])

    def count(self, key: tuple[str, str] = ALL) -> int:
        """Images of the split or of a slice of it."""
        return self._sums.images(key)

    def skipped(self, column: Column) -> int:
        """Images where a column is not defined."""
        ladder, metric, budget = column
        counts = self._sums.count()
        if ladder in FLOORS:
            return self.images - int(counts[self.layout.floor(ladder)])
        of = self.layout.of(counts, ladder, metric)
        return self.images - int(of[0, self.layout.budgets.index(budget)])

    def weights(self, terms: Terms) -> np.ndarray:
        """A combination of columns as a vector over `names`."""
        weights = np.zeros(len(self.names))
        for column, weight in terms.items():
            weights[self._at[column]] = weight
        return weights

    def each(self, terms: Terms) -> np.ndarray:
        """float64 [N]: a combination of columns for every kept image."""
        used = self.weights(terms)
        columns = np.flatnonzero(used)
        return self.bootstrap.values[:, columns] @ used[columns]

    def interval(self, terms: Terms, level: float = LEVEL) -> Interval | None:
        """Of the mean of a combination; None for fewer than 8 images that have it."""
        interval = self.bootstrap.interval(self.weights(terms), level)
        if interval is None or self.images == len(self.table):
            return interval
        shift = self._shift(terms)
        return (interval[0] + shift, interval[1] + shift)

    def replicates(self, terms: Terms) -> np.ndarray | None:
        """The mean of a combination in each resample; None for fewer than 8 images."""
        if int(np.isfinite(self.each(terms)).sum()) < statistics.LEAST:
            return None
        used = self.weights(terms)
        columns = np.flatnonzero(used)
        return self.bootstrap.replicates[:, columns] @ used[columns] + self._shift(terms)

    def estimate(self, terms: Terms) -> Estimate:
        """Mean and interval of a combination of columns."""
        return Estimate(mean=number(self._exact(terms)), interval=self.interval(terms))

    def paired(self, terms: Terms) -> Paired:
        """`estimate` with Wilcoxon's p-value and the number of images that have a value."""
        column = next(iter(terms))
        return Paired(
            mean=number(self._exact(terms)),
            interval=self.interval(terms),
            wilcoxon_p=statistics.wilcoxon(self.each(terms)),
            images=self.images - self.skipped(column),
        )

    def difference(self, first: Model, second: Model) -> Difference:
        """What images gain from one model to another, in PSNR and in SSIM."""

        def paired(metric: str) -> Paired:
            (before, old), (after, new) = first, second
            return self.paired({(after, metric, new): 1.0, (before, metric, old): -1.0})

        return Difference(psnr=paired("psnr"), ssim=paired("ssim"))

    def summary(self, ladder: str, budget: int) -> Summary:
        """The quality of a budget: every metric, and the gain over the linear floor."""
        metrics = {metric: self._metric((ladder, metric, budget)) for metric in METRICS}
        terms = {(ladder, "psnr", budget): 1.0, ("patch_pca", "psnr", 0): -1.0}
        return Summary(images=self.images, **metrics, gain_over_floor=self.estimate(terms))

    def _metric(self, column: Column) -> Metric:
        values = self.each({column: 1.0})
        kept = np.sort(values[np.isfinite(values)])
        worst = kept[::-1] if column[1] in _WORST_IS_HIGH else kept
        return Metric(
            mean=number(self._exact({column: 1.0})),
            interval=self.interval({column: 1.0}),
            median=number(np.median(kept)) if len(kept) else None,
            worst_decile=number(worst[: -(-len(kept) // 10)].mean()) if len(kept) else None,
            skipped=self.skipped(column),
        )

    def _shift(self, terms: Terms) -> float:
        """From the mean of the kept images, where they are a sample, to that of all."""
        if self.images == len(self.table):
            return 0.0
        return self._exact(terms) - float(np.nanmean(self.each(terms)))

    def _exact(self, terms: Terms) -> float:
        used = self.weights(terms)
        columns = np.flatnonzero(used)
        return float(self.means()[columns] @ used[columns])


def number(value: Any) -> float | None:
    """A float for JSON, which knows no NaN."""
    return None if value is None or not np.isfinite(value) else float(value)
