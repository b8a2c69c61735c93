"""Slices of the test images: where a budget that is better on average is worse."""

import numpy as np

from keras_ae.comparison import statistics
from keras_ae.comparison.records import Paired, Slice, Slices, WorseSlice
from keras_ae.comparison.split import Split, psnr_gain
from keras_ae.scores import MODEL, finite_or_none

HARDEST = ("hardest tenth", "by PSNR of patch PCA")
"""The tenth of the images that patch PCA reconstructs worst, whatever the budgets do with them."""
SIGNIFICANCE = 0.05
RESAMPLES = 2_000
MAX_SMALL_SLICES = 50
"""Slices of fewer than 8 images are listed only if there are at most this many."""


def break_down(split: Split, name: str, chosen: int) -> Slices:
    """Compares budgets within each slice of a split's images; `change` is from the smallest budget
    to the chosen one.

    A slice is reported as worse if its images lose PSNR from one budget to a later one, by a
    one-sided paired t-test, while all images together gain. The p-values of all slices and steps
    are adjusted together (Holm 1979). Slices of fewer than 8 images are not tested.
    """
    budgets = split.layout.budgets
    first = budgets[0]
    slices = _slices(split)
    steps = sorted({*zip(budgets, budgets[1:]), *([(first, chosen)] if chosen != first else [])})
    tested = [s for s in slices if int(s[2].sum()) >= statistics.MIN_IMAGES]
    listed = slices if len(slices) - len(tested) <= MAX_SMALL_SLICES else tested
    rows = [_row(split, by, value, images, first, chosen) for by, value, images in listed]
    compared = len(tested) * len(steps)
    return Slices(
        split=name,
        least=statistics.MIN_IMAGES,
        level=statistics.CONFIDENCE_LEVEL,
        from_=first,
        to=chosen,
        compared=compared,
        rows=tuple(rows),
        worse=_worse(split, tested, steps),
        text=_text(len(slices), len(tested), len(listed), compared),
    )


def _slices(split: Split) -> list[tuple[str, str, np.ndarray]]:
    """Attributes, their values, and masks of the images; without slices of all images."""
    table, slices, patterns = split.table, [], set()
    for by, column in table.slices.items():
        values = sorted(set(column))
        groups = [column == value for value in values]
        # Two attributes may divide the images in the same way, such as folders named by label.
        pattern = frozenset(group.tobytes() for group in groups)
        if len(values) > 1 and pattern not in patterns:
            slices += [(by, value, group) for value, group in zip(values, groups)]
            patterns.add(pattern)
    floor = split.per_image({("patch_pca", "psnr", 0): 1.0})
    hardest = np.zeros(len(floor), bool)
    hardest[np.argsort(floor, kind="stable")[: -(-len(floor) // 10)]] = True
    return [*slices, (*HARDEST, hardest)]


def _row(split: Split, by: str, value: str, images: np.ndarray, first: int, chosen: int) -> Slice:
    budgets = split.layout.budgets
    # There are exact sums of all slices but the hardest tenth, which depends on the scores.
    exact = (by, value) != HARDEST
    count = split.count((by, value)) if exact else int(images.sum())
    values = split.bootstrap.values[images]
    means = split.means((by, value)) if exact else statistics.column_means(values)
    mean_of = dict(zip(split.names, means))
    change = Paired(mean=0.0, interval=None, wilcoxon_p=None, images=len(values))
    if chosen != first:
        change = statistics.paired(split.per_image(psnr_gain(chosen, first))[images], RESAMPLES)
    return Slice(
        by=by,
        value=value,
        images=count,
        psnr=tuple(finite_or_none(mean_of[MODEL, "psnr", budget]) for budget in budgets),
        ssim=tuple(finite_or_none(mean_of[MODEL, "ssim", budget]) for budget in budgets),
        gain_over_floor=finite_or_none(
            mean_of[MODEL, "psnr", chosen] - mean_of["patch_pca", "psnr", 0]
        ),
        change=change,
    )


def _worse(
    split: Split, tested: list[tuple[str, str, np.ndarray]], steps: list[tuple[int, int]]
) -> tuple[WorseSlice, ...]:
    comparisons = []
    for before, after in steps:
        terms = psnr_gain(after, before)
        gains, overall = split.per_image(terms), split.estimate(terms).value
        comparisons += [(by, v, before, after, gains[images], overall) for by, v, images in tested]
    adjusted = statistics.holm_adjusted([statistics.decrease_p_value(c[4]) for c in comparisons])
    worse = []
    for (by, value, before, after, gains, overall), p in zip(comparisons, adjusted):
        if p < SIGNIFICANCE and overall > 0:
            change = statistics.estimate(gains, RESAMPLES)
            worse.append(
                WorseSlice(
                    by=by,
                    value=value,
                    from_=before,
                    to=after,
                    images=len(gains),
                    mean=change.value,
                    interval=change.interval,
                    overall=overall,
                )
            )
    return tuple(worse)


def _text(slices: int, tested: int, listed: int, compared: int) -> str:
    hidden = f" {slices - listed} smaller slices are not listed." if listed < slices else ""
    least = f"{statistics.MIN_IMAGES} images or more"
    if not tested:
        return f"No slice was tested: none of {slices} has {least}.{hidden}"
    return (
        f"{tested} of {slices} slices have {least} and were tested in {compared} comparisons; "
        f"p-values are adjusted for this number.{hidden}"
    )
