"""Parts of the test images: where a budget that is better on average is worse."""

import numpy as np

from keras_ae.comparison import statistics
from keras_ae.comparison.records import Paired, Slice, Slices, WorseSlice
from keras_ae.comparison.split import Split, number
from keras_ae.scores import MODEL

HARDEST = ("hardest tenth", "by PSNR of patch PCA")
"""The worst decile that no budget had a say in."""
FLAGGED = 0.05
RESAMPLES = 2_000
LISTED = 50
"""Slices of fewer than 8 images that are listed, or none of them if there are more."""


def break_down(split: Split, name: str, chosen: int) -> Slices:
    """Compares budgets within each slice of a split's images.

    A slice is called worse where its images lose from one budget to a later one while all images
    together gain, by a one-sided paired t-test, with the p-values of all slices and steps adjusted
    together (Holm 1979). Slices of fewer than 8 images are listed and not judged.

    Args:
        split: the images.
        name: of the split.
        chosen: the chosen budget; `change` is from the smallest budget to it.
    """
    budgets = split.layout.budgets
    first = budgets[0]
    slices = _slices(split)
    steps = sorted({*zip(budgets, budgets[1:]), *([(first, chosen)] if chosen != first else [])})
    judged = [s for s in slices if int(s[2].sum()) >= statistics.LEAST]
    listed = slices if len(slices) - len(judged) <= LISTED else judged
    rows = [_row(split, by, value, images, first, chosen) for by, value, images in listed]
    compared = len(judged) * len(steps)
    return Slices(
        split=name,
        least=statistics.LEAST,
        level=statistics.LEVEL,
        from_=first,
        to=chosen,
        compared=compared,
        rows=tuple(rows),
        worse=_worse(split, judged, steps),
        text=_text(len(slices), len(judged), len(listed), compared),
    )


def _slices(split: Split) -> list[tuple[str, str, np.ndarray]]:
    """What is sliced, the slice, and which images are in it; nothing that holds them all."""
    table, found, seen = split.table, [], set()
    for by, column in table.slices.items():
        values = sorted(set(column))
        groups = [column == value for value in values]
        # A folder for each label divides the images as the labels do.
        pattern = frozenset(group.tobytes() for group in groups)
        if len(values) > 1 and pattern not in seen:
            found += [(by, value, group) for value, group in zip(values, groups)]
            seen.add(pattern)
    floor = split.each({("patch_pca", "psnr", 0): 1.0})
    tenth = np.argsort(floor, kind="stable")[: -(-len(floor) // 10)]
    hardest = np.zeros(len(floor), bool)
    hardest[tenth] = True
    return [*found, (*HARDEST, hardest)]


def _row(split: Split, by: str, value: str, images: np.ndarray, first: int, chosen: int) -> Slice:
    budgets = split.layout.budgets
    exact = (by, value) != HARDEST
    part = split.bootstrap.values[images]
    means = split.means((by, value)) if exact else statistics.mean(part)
    at = dict(zip(split.names, means))
    gain = at[MODEL, "psnr", chosen] - at["patch_pca", "psnr", 0]
    terms = {(MODEL, "psnr", chosen): 1.0, (MODEL, "psnr", first): -1.0}
    return Slice(
        by=by,
        value=value,
        images=split.count((by, value)) if exact else int(images.sum()),
        psnr=tuple(number(at[MODEL, "psnr", budget]) for budget in budgets),
        ssim=tuple(number(at[MODEL, "ssim", budget]) for budget in budgets),
        gain_over_floor=number(gain),
        change=_change(split.each(terms)[images]) if chosen != first else _no_change(part),
    )


def _change(each: np.ndarray) -> Paired:
    return Paired(
        mean=number(each.mean()),
        interval=statistics.Bootstrap(each[:, None], RESAMPLES).interval([1.0]),
        wilcoxon_p=statistics.wilcoxon(each),
        images=len(each),
    )


def _no_change(part: np.ndarray) -> Paired:
    return Paired(mean=0.0, interval=None, wilcoxon_p=None, images=len(part))


def _worse(
    split: Split, judged: list[tuple[str, str, np.ndarray]], steps: list[tuple[int, int]]
) -> tuple[WorseSlice, ...]:
    found, p_values = [], []
    for before, after in steps:
        terms = {(MODEL, "psnr", after): 1.0, (MODEL, "psnr", before): -1.0}
        each, overall = split.each(terms), split.estimate(terms).value
        for by, value, images in judged:
            p_values.append(statistics.fell(each[images]))
            found.append((by, value, before, after, each[images], overall))
    worse = []
    for (by, value, before, after, each, overall), p in zip(found, statistics.holm(p_values)):
        if p < FLAGGED and overall > 0:
            change = _change(each)
            worse.append(
                WorseSlice(
                    by=by,
                    value=value,
                    from_=before,
                    to=after,
                    images=change.images,
                    mean=change.value,
                    interval=change.interval,
                    overall=overall,
                )
            )
    return tuple(worse)


def _text(slices: int, judged: int, listed: int, compared: int) -> str:
    hidden = f" {slices - listed} smaller ones are not listed." if listed < slices else ""
    if not judged:
        return f"None of {slices} slices has {statistics.LEAST} images: none is judged.{hidden}"
    return (
        f"{judged} of {slices} slices have {statistics.LEAST} images or more and were judged in "
        f"{compared} comparisons; p-values are adjusted for their number.{hidden}"
    )
