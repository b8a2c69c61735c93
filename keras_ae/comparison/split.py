"""The images of one split: means over all of them, intervals over those in the table."""

from collections.abc import Mapping

import numpy as np

from keras_ae.comparison import statistics
from keras_ae.comparison.records import Difference, Estimate, Metric, Paired, Summary
from keras_ae.comparison.statistics import CONFIDENCE_LEVEL, Bootstrap, Interval
from keras_ae.scores import ALL, FLOORS, METRICS, Layout, Sums, Table, finite_or_none

Column = tuple[str, str, int]
"""A ladder, a metric and a budget, averaged over seeds; or a floor, "psnr" and 0."""
Terms = Mapping[Column, float]
"""A linear combination: weights by column."""
Model = tuple[str, int]
"""A ladder and a budget."""
_LOWER_IS_BETTER = ("mse",)


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
        self.bootstrap = Bootstrap(self.mean_over_seeds(table.values), seed=seed)

    def mean_over_seeds(self, matrix: np.ndarray) -> np.ndarray:
        """Maps a matrix [..., width] of scores to the columns `names`, [..., len(names)]."""
        matrix = np.asarray(matrix, np.float64)
        parts = [matrix[..., : len(FLOORS)]]
        for ladder in self.layout.seeds:
            parts += [self.layout.select(matrix, ladder, metric).mean(-2) for metric in METRICS]
        return np.concatenate(parts, -1)

    def means(self, key: tuple[str, str] = ALL) -> np.ndarray:
        """The exact means over all images of the split or of one slice, in the order of `names`."""
        return self.mean_over_seeds(self._sums.mean(key))

    def mean(self, column: Column, key: tuple[str, str] = ALL) -> float | None:
        """One of the `means`; None where no image has a value."""
        return finite_or_none(self.means(key)[self._index[column]])

    def count(self, key: tuple[str, str] = ALL) -> int:
        """Number of images of the split or of one slice."""
        return self._sums.images(key)

    def skipped(self, column: Column) -> int:
        """Number of images for which a column is not defined."""
        ladder, metric, budget = column
        counts = self._sums.count()
        if ladder in FLOORS:
            return self.image_count - int(counts[self.layout.floor_column(ladder)])
        by_seed_and_budget = self.layout.select(counts, ladder, metric)
        return self.image_count - int(by_seed_and_budget[0, self.layout.budgets.index(budget)])

    def weights(self, terms: Terms) -> np.ndarray:
        """A linear combination of columns as a vector over `names`."""
        weights = np.zeros(len(self.names))
        for column, weight in terms.items():
            weights[self._index[column]] = weight
        return weights

    def per_image(self, terms: Terms) -> np.ndarray:
        """float64 [N]: a combination of columns for every image of the table."""
        return self._combine(self.bootstrap.values, terms)

    def interval(self, terms: Terms, level: float = CONFIDENCE_LEVEL) -> Interval | None:
        """The interval of the mean of a combination; None for fewer than 8 images with a value."""
        interval = self.bootstrap.interval(self.weights(terms), level)
        if interval is None or self.image_count == len(self.table):
            return interval
        shift = self._shift(terms)
        return (interval[0] + shift, interval[1] + shift)

    def replicates(self, terms: Terms) -> np.ndarray | None:
        """The mean of a combination in each resample; None for fewer than 8 images."""
        if int(np.isfinite(self.per_image(terms)).sum()) < statistics.MIN_IMAGES:
            return None
        return self._combine(self.bootstrap.replicates, terms) + self._shift(terms)

    def estimate(self, terms: Terms) -> Estimate:
        """Mean and interval of a combination of columns."""
        return Estimate(mean=finite_or_none(self._exact_mean(terms)), interval=self.interval(terms))

    def paired(self, terms: Terms) -> Paired:
        """`estimate` with Wilcoxon's p-value and the number of images that have a value."""
        column = next(iter(terms))
        return Paired(
            mean=finite_or_none(self._exact_mean(terms)),
            interval=self.interval(terms),
            wilcoxon_p=statistics.wilcoxon_p_value(self.per_image(terms)),
            images=self.image_count - self.skipped(column),
        )

    def difference(self, first: Model, second: Model) -> Difference:
        """The second model minus the first, in PSNR and in SSIM."""

        def paired(metric: str) -> Paired:
            (before, old), (after, new) = first, second
            return self.paired({(after, metric, new): 1.0, (before, metric, old): -1.0})

        return Difference(psnr=paired("psnr"), ssim=paired("ssim"))

    def summary(self, ladder: str, budget: int) -> Summary:
        """The quality of a budget's model: every metric, and the gain over the linear floor."""
        metrics = {metric: self._metric((ladder, metric, budget)) for metric in METRICS}
        terms = {(ladder, "psnr", budget): 1.0, ("patch_pca", "psnr", 0): -1.0}
        return Summary(images=self.image_count, **metrics, gain_over_floor=self.estimate(terms))

    def _metric(self, column: Column) -> Metric:
        values = self.per_image({column: 1.0})
        ascending = np.sort(values[np.isfinite(values)])
        count = len(ascending)
        worst_first = ascending[::-1] if column[1] in _LOWER_IS_BETTER else ascending
        worst_decile = worst_first[: -(-count // 10)]
        return Metric(
            mean=finite_or_none(self._exact_mean({column: 1.0})),
            interval=self.interval({column: 1.0}),
            median=finite_or_none(np.median(ascending)) if count else None,
            worst_decile=finite_or_none(worst_decile.mean()) if count else None,
            skipped=self.skipped(column),
        )

    def _shift(self, terms: Terms) -> float:
        """The mean over all images minus that over the table, where the table is a sample."""
        if self.image_count == len(self.table):
            return 0.0
        return self._exact_mean(terms) - float(np.nanmean(self.per_image(terms)))

    def _exact_mean(self, terms: Terms) -> float:
        return float(self._combine(self.means(), terms))

    def _combine(self, values: np.ndarray, terms: Terms) -> np.ndarray:
        """A combination of columns of [..., len(names)]. NaN in other columns does not matter."""
        weights = self.weights(terms)
        used = np.flatnonzero(weights)
        combination: np.ndarray = values[..., used] @ weights[used]
        return combination
