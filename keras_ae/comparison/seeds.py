"""Several seeds: the variance between seeds, and that between images."""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_ae.comparison.records import SeedChange, SeedMeans, Seeds, Variance, Variances
from keras_ae.comparison.split import Split
from keras_ae.comparison.statistics import variance_components
from keras_ae.contract import SPLITS, TEST, VAL
from keras_ae.scores import MODEL, finite_or_none


def seed_means(
    splits: Mapping[str, Split], seeds: Sequence[int], budget_index: int
) -> tuple[SeedMeans, ...]:
    """Mean val and test PSNR of each seed's model at a budget."""
    means = {split: _means(splits[split])[:, budget_index] for split in (VAL, TEST)}
    return tuple(
        SeedMeans(seed=seed, val=finite_or_none(means[VAL][i]), test=finite_or_none(means[TEST][i]))
        for i, seed in enumerate(seeds)
    )


def best_seed(val: Split, seeds: Sequence[int], budget_index: int) -> int:
    """The seed whose model at a budget has the highest mean val PSNR."""
    return seeds[int(np.argmax(_means(val)[:, budget_index]))]


def _means(split: Split) -> np.ndarray:
    """Mean PSNR by seed and budget, [seeds, budgets]."""
    return split.layout.select(split.exact_means, MODEL, "psnr")


def compare_seeds(splits: Mapping[str, Split], seeds: Sequence[int], chosen: int) -> Seeds | None:
    """Separates the variance between seeds from that between images; None for a single seed.

    Args:
        splits: images by split.
        seeds: seeds of the ladders.
        chosen: epochs of the chosen budget.
    """
    if len(seeds) < 2:
        return None
    layout = splits[TEST].layout
    index = {budget: i for i, budget in enumerate(layout.budgets)}
    psnr = {
        name: layout.select(split.table.values, MODEL, "psnr") for name, split in splits.items()
    }
    scores = {name: values[..., index[chosen]] for name, values in psnr.items()}
    steps = []
    for before, after in zip(layout.budgets, layout.budgets[1:]):
        change = {
            name: _variance(values[..., index[after]] - values[..., index[before]])
            for name, values in psnr.items()
        }
        steps.append(SeedChange(from_=before, to=after, splits=Variances(**change)))
    variances = Variances(**{name: _variance(scores[name]) for name in SPLITS})
    return Seeds(
        seeds=tuple(seeds),
        splits=variances,
        differences=tuple(steps),
        text=_text(variances.test, len(seeds), chosen),
    )


def _variance(scores: np.ndarray) -> Variance:
    parts = variance_components(scores.astype(np.float64))
    kept = scores[np.isfinite(scores).all(1)]
    return Variance(
        mean=finite_or_none(kept.mean()) if len(kept) else None,
        image_sd=parts and parts.images,
        seed_sd=parts and parts.seeds,
        rest_sd=parts and parts.residual,
        images_interval=parts and parts.over_images,
        interval=parts and parts.over_images_and_seeds,
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
