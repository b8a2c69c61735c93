"""How often confidence intervals contain the true value: `python -m benchmarks.coverage`."""

import math
from collections.abc import Iterator

import numpy as np

from keras_ae.comparison.split import Split
from keras_ae.comparison.statistics import variance_components
from keras_ae.scores import MODEL, Layout, Sums, make_table

TABLES = 1000
IMAGES = (10, 50, 1000)
DISTRIBUTIONS = ("normal", "skewed")
_TABLES_PER_BATCH = 100


def draw_gains(distribution: str, images: int, tables: int) -> tuple[np.ndarray, float]:
    """Draws gains of images in dB, float64 [images, tables], and returns them with their true mean.

    Args:
        distribution: "normal", or "skewed": lognormal, where a few images gain most.
        images: number of images of a table.
        tables: number of tables.
    """
    rng = np.random.default_rng(images)
    if distribution == "normal":
        return rng.normal(0.1, 0.2, (images, tables)), 0.1
    return rng.lognormal(-2.5, 0.7, (images, tables)), float(np.exp(-2.5 + 0.7**2 / 2))


def coverage_over_images(distribution: str, images: int, tables: int = TABLES) -> float:
    """The share of score tables in which the interval of a budget's mean gain contains the truth.

    Each table has two budgets of its own on the same images; `compare` computes its intervals in
    the same way.
    """
    gains, truth = draw_gains(distribution, images, tables)
    covered = 0
    for start in range(0, tables, _TABLES_PER_BATCH):
        split = _split(gains[:, start : start + _TABLES_PER_BATCH])
        for first in split.layout.budgets[::2]:
            gain = split.difference((MODEL, first), (MODEL, first + 1)).psnr
            low, high = gain.interval or (math.nan, math.nan)
            covered += low <= truth <= high
    return covered / tables


def _split(gains: np.ndarray) -> Split:
    """Scores of images at pairs of budgets, 1 and 2, 3 and 4, ..., that differ by the gains."""
    images, tables = gains.shape
    rng = np.random.default_rng(images + 1)
    layout = Layout(tuple(range(1, 2 * tables + 1)), {MODEL: 1})
    values = np.zeros((images, layout.width), np.float32)
    psnr = layout.select(values, MODEL, "psnr")[:, 0]
    psnr[:, ::2] = rng.normal(28, 3, (images, tables))
    psnr[:, 1::2] = psnr[:, ::2] + gains
    names = [f"{i:08}" for i in range(images)]
    rows = make_table(names, names, {}, values)
    sums = Sums()
    sums.add(rows)
    return Split(sums, rows, layout)


def coverage_over_seeds(
    seed_deviation: float, images: int = 100, seeds: int = 3, tables: int = 300
) -> tuple[float, float]:
    """The shares of intervals, over images alone and over images and seeds, that contain the truth.

    Args:
        seed_deviation: standard deviation of a seed's mean in dB; that of images is 2, that of the
            residual of each score 0.1.
        images: number of images of a table.
        seeds: number of seeds of a table.
        tables: number of tables.
    """
    rng = np.random.default_rng(seeds)
    covered = np.zeros(2)
    for _ in range(tables):
        scores = 30 + rng.normal(0, 2, (images, 1)) + rng.normal(0, seed_deviation, (1, seeds))
        parts = variance_components(scores + rng.normal(0, 0.1, (images, seeds)))
        for i, interval in enumerate((parts.images_interval, parts.interval)):
            covered[i] += interval is not None and interval[0] <= 30 <= interval[1]
    over_images, over_both = covered / tables
    return over_images, over_both


def lines() -> Iterator[str]:
    """The lines of both tables."""
    yield f"{'gains':<8} {'images':>6} {'coverage':>9}   of 95 % intervals, {TABLES} tables"
    for distribution in DISTRIBUTIONS:
        for images in IMAGES:
            coverage = coverage_over_images(distribution, images)
            yield f"{distribution:<8} {images:>6} {coverage:>9.1%}"
    yield ""
    yield (
        f"{'seeds differ by':<16} {'over images':>12} {'over both':>10}   "
        "of 95 % intervals, 300 tables, 3 seeds"
    )
    for seed_deviation in (0.0, 0.05, 0.3):
        over_images, over_both = coverage_over_seeds(seed_deviation)
        yield f"{seed_deviation:>13.2f} dB {over_images:>12.1%} {over_both:>10.1%}"


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
