"""Several seeds: the variance between seeds, and that between images."""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_ae.comparison.records import BySplit, SeedChange, SeedMeans, Seeds, Variance
from keras_ae.comparison.split import Split
from keras_ae.comparison.statistics import variance_components
from keras_ae.contract import TEST, VAL
from keras_ae.scores import MODEL, finite_or_none


def seed_means(
    splits: Mapping[str, Split], seeds: Sequence[int], budget_index: int
) -> tuple[SeedMeans, ...]:
    """Mean val and test PSNR of each seed's model at a budget."""
    val, test = (_means(splits[split])[:, budget_index] for split in (VAL, TEST))
    return tuple(
        SeedMeans(seed=seed, val=finite_or_none(val[i]), test=finite_or_none(test[i]))
        for i, seed in enumerate(seeds)
    )


def best_seed(val: Split, seeds: Sequence[int], budget_index: int) -> int:
    """The seed whose model at a budget has the highest mean val PSNR."""
    return seeds[int(np.argmax(_means(val)[:, budget_index]))]


def _means(split: Split) -> np.ndarray:
    """Mean PSNR by seed and budget, [seeds, budgets]."""
    return split.layout.select(split.exact_means, MODEL, "psnr")


def compare_seeds(splits: Mapping[str, Split], seeds: Sequence[int], chosen: int) -> Seeds | None:
    """Separates the variance between seeds from that between images, at the budget `chosen` and
    for each step; None for a single seed."""
    if len(seeds) < 2:
        return None
    layout = splits[TEST].layout
    index = layout.budgets.index(chosen)
    psnr = {name: layout.select(s.table.values, MODEL, "psnr") for name, s in splits.items()}
    at_chosen = {name: variance_components(scores[..., index]) for name, scores in psnr.items()}
    variances, steps = BySplit[Variance](**at_chosen), []
    for i, (before, after) in enumerate(zip(layout.budgets, layout.budgets[1:])):
        change = {n: variance_components(s[..., i + 1] - s[..., i]) for n, s in psnr.items()}
        steps.append(SeedChange(from_=before, to=after, splits=BySplit[Variance](**change)))
    return Seeds(
        seeds=tuple(seeds),
        splits=variances,
        differences=tuple(steps),
        text=_text(variances.test, len(seeds), chosen),
    )


def _text(variance: Variance, seeds: int, chosen: int) -> str:
    if variance.image_sd is None:
        return f"The variance over {seeds} seeds cannot be estimated from one test image"
    text = (
        f"Over {seeds} seeds at {chosen:,} epochs, test PSNR has a standard deviation of "
        f"{variance.seed_sd:.2f} dB between seeds and {variance.image_sd:.2f} dB between images"
    )
    if variance.interval is None or variance.images_interval is None:
        return text
    (low, high), (images_low, images_high) = variance.interval, variance.images_interval
    return (
        f"{text}; the interval of the mean is {images_low:.2f} to {images_high:.2f} dB over images "
        f"and {low:.2f} to {high:.2f} dB over images and seeds"
    )
