"""How often an interval holds the truth: `python -m benchmarks.coverage`."""

import math
from collections.abc import Iterator

import numpy as np

from keras_ae.comparison.split import Split
from keras_ae.comparison.statistics import components
from keras_ae.scores import MODEL, Layout, Sums, table

TABLES = 1000
IMAGES = (10, 50, 1000)
KINDS = ("normal", "skewed")
_TOGETHER = 100


def draw(kind: str, images: int, tables: int = TABLES) -> tuple[np.ndarray, float]:
    """Gains of images in dB, [images, tables], and the mean that they were drawn from.

    Args:
        kind: "normal", or "skewed": lognormal, where a few images gain most.
        images: of a table.
        tables: how many.
    """
    rng = np.random.default_rng(images)
    if kind == "normal":
        return rng.normal(0.1, 0.2, (images, tables)), 0.1
    return rng.lognormal(-2.5, 0.7, (images, tables)), float(np.exp(-2.5 + 0.7**2 / 2))


def of_images(kind: str, images: int, tables: int = TABLES) -> float:
    """The share of score tables whose interval of a budget's mean gain holds the truth.

    Each table has its own two budgets of the same images; `compare` gets its intervals likewise.
    """
    gains, truth = draw(kind, images, tables)
    held = 0
    for begin in range(0, tables, _TOGETHER):
        some = gains[:, begin : begin + _TOGETHER]
        split = _split(some)
        for first in split.layout.budgets[::2]:
            gain = split.difference((MODEL, first), (MODEL, first + 1)).psnr
            low, high = gain.interval or (math.nan, math.nan)
            held += low <= truth <= high
    return held / tables


def _split(gains: np.ndarray) -> Split:
    """Scores of images at pairs of budgets, 1 and 2, 3 and 4, ..., that differ by the gains."""
    images, tables = gains.shape
    rng = np.random.default_rng(images + 1)
    layout = Layout(tuple(range(1, 2 * tables + 1)), {MODEL: 1})
    values = np.zeros((images, layout.width), np.float32)
    psnr = layout.of(values, MODEL, "psnr")[:, 0]
    psnr[:, ::2] = rng.normal(28, 3, (images, tables))
    psnr[:, 1::2] = psnr[:, ::2] + gains
    names = [f"{i:08}" for i in range(images)]
    rows = table(names, names, {}, values)
    sums = Sums()
    sums.add(rows)
    return Split(sums, rows, layout)


def of_seeds(between: float, images: int = 100, seeds: int = 3, tables: int = 300) -> list[float]:
    """The shares of intervals, over images alone and over images and seeds, that hold the truth.

    Args:
        between: standard deviation of a seed's mean, dB; that of images is 2, that of what is left
            of each score 0.1.
        images: of a table.
        seeds: of a table.
        tables: how many.
    """
    rng = np.random.default_rng(seeds)
    held = np.zeros(2)
    for _ in range(tables):
        scores = 30 + rng.normal(0, 2, (images, 1)) + rng.normal(0, between, (1, seeds))
        parts = components(scores + rng.normal(0, 0.1, (images, seeds)))
        if parts is not None:
            for i, interval in enumerate((parts.over_images, parts.over_both)):
                held[i] += interval is not None and interval[0] <= 30 <= interval[1]
    return list(held / tables)


def lines() -> Iterator[str]:
    """The table, line by line."""
    yield f"{'gains':<8} {'images':>6} {'held':>7}   of {TABLES} tables, for 95 % intervals"
    for kind in KINDS:
        for images in IMAGES:
            yield f"{kind:<8} {images:>6} {of_images(kind, images):>7.1%}"
    yield ""
    yield f"{'seeds differ by':<16} {'over images':>12} {'over both':>10}   of 300 tables, 3 seeds"
    for between in (0.0, 0.05, 0.3):
        over_images, over_both = of_seeds(between)
        yield f"{between:>13.2f} dB {over_images:>12.1%} {over_both:>10.1%}"


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
