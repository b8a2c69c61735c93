"""Several seeds: how much of a difference is luck of the start, and how much of the images."""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_ae.comparison.records import SeedChange, SeedMeans, Seeds, Variance, Variances
from keras_ae.comparison.split import Split, number
from keras_ae.comparison.statistics import components
from keras_ae.contract import SPLITS, TEST, VAL
from keras_ae.scores import MODEL


def by_seed(splits: Mapping[str, Split], seeds: Sequence[int], at: int) -> tuple[SeedMeans, ...]:
    """Mean val and test PSNR of each seed's model at the budget in place `at`."""
    means = {split: _means(splits[split])[:, at] for split in (VAL, TEST)}
    return tuple(
        SeedMeans(seed=seed, val=number(means[VAL][i]), test=number(means[TEST][i]))
        for i, seed in enumerate(seeds)
    )


def best_seed(val: Split, seeds: Sequence[int], at: int) -> int:
    """The seed whose model at that budget has the highest mean val PSNR."""
    return seeds[int(np.argmax(_means(val)[:, at]))]


def _means(split: Split) -> np.ndarray:
    return split.layout.of(split.exact, MODEL, "psnr")


def separate(splits: Mapping[str, Split], seeds: Sequence[int], chosen: int) -> Seeds | None:
    """The variance between seeds and that between images; None for one seed.

    Args:
        splits: of all images.
        seeds: of the ladders.
        chosen: epochs of the chosen budget.
    """
    if len(seeds) < 2:
        return None
    layout = splits[TEST].layout
    at = {budget: place for place, budget in enumerate(layout.budgets)}
    psnr = {name: layout.of(split.table.values, MODEL, "psnr") for name, split in splits.items()}
    scores = {name: values[..., at[chosen]] for name, values in psnr.items()}
    steps = []
    for before, after in zip(layout.budgets, layout.budgets[1:]):
        change = {
            name: _entry(values[..., at[after]] - values[..., at[before]])
            for name, values in psnr.items()
        }
        steps.append(SeedChange(from_=before, to=after, splits=Variances(**change)))
    entries = Variances(**{name: _entry(scores[name]) for name in SPLITS})
    return Seeds(
        seeds=tuple(seeds),
        splits=entries,
        differences=tuple(steps),
        text=_text(entries.test, len(seeds), chosen),
    )


def _entry(scores: np.ndarray) -> Variance:
    parts = components(scores.astype(np.float64))
    kept = scores[np.isfinite(scores).all(1)]
    return Variance(
        mean=number(kept.mean()) if len(kept) else None,
        image_sd=parts and parts.images,
        seed_sd=parts and parts.seeds,
        rest_sd=parts and parts.rest,
        images_interval=parts and parts.over_images,
        interval=parts and parts.over_both,
    )


def _text(entry: Variance, seeds: int, chosen: int) -> str:
    if entry.image_sd is None:
        return f"{seeds} seeds and one test image: nothing can be said of the variance"
    text = (
        f"Over {seeds} seeds at {chosen:,} epochs test PSNR has a standard deviation of "
        f"{entry.seed_sd:.2f} dB between seeds and {entry.image_sd:.2f} dB between images"
    )
    if entry.interval is None or entry.images_interval is None:
        return text
    (low, high), (inner, outer) = entry.interval, entry.images_interval
    return (
        f"{text}; the mean's interval is {inner:.2f} to {outer:.2f} dB over other images and "
        f"{low:.2f} to {high:.2f} over other images and seeds"
    )
