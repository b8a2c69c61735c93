"""The figures of the report: PSNR and losses over epochs, and the model among codecs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from keras_ae.comparison.records import Budget, Codec, Codecs, Comparison, Floors, Losses
from keras_ae.contract import SPLITS, TEST, VAL
from keras_ae.report.drawing import (
    COLOURS,
    DASHES,
    WIDE,
    Geometry,
    Margins,
    draw,
    legend,
    legend_line,
    log_axis,
    mark_chosen,
)
from keras_ae.scores import BASELINE, MODEL

MARKERS = {"train": "o", "val": "^", "test": "s", "base": "D"}
_OFFSETS = {"train": -6.0, "val": -2.0, "test": 2.0, "base": 6.0}
"""Pixels by which a line is shifted, so that the intervals of the lines do not overlap."""
_GLOBAL_PCA_DASHES, _EXTRAPOLATED_DASHES = (0, (1, 3)), (0, (2, 2))

Point = tuple[float, float | None, Sequence[float] | None]
"""Epochs, mean and interval."""


def loss_curves(comparison: Comparison) -> Markup:
    """Draws the training loss of every ladder and seed over epochs, with logarithmic axes."""
    return draw(
        "losses",
        "Mean training loss of each epoch, over epochs, for every ladder",
        lambda axes, geometry: _plot_losses(axes, geometry, comparison),
        height=320,
    )


def _plot_losses(axes: Axes, geometry: Geometry, comparison: Comparison) -> Margins:
    margins = Margins(74, 24, 48, 46)
    chosen = comparison.chosen.epochs
    budgets = [entry.epochs for entry in comparison.budgets]
    epochs = [e for ladder in comparison.losses for e in ladder.epochs]
    log_axis(axes, geometry, margins, sorted({min(epochs), *budgets, max(epochs)}), chosen)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(_log_ticks(comparison.losses))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    handles = {}
    for ladder in comparison.losses:
        colour, dashes = ("base", DASHES) if ladder.ladder == BASELINE else ("train", "-")
        line: dict[str, Any] = {"color": COLOURS[colour], "linewidth": 1.4}
        axes.plot(ladder.epochs, ladder.loss, linestyle=dashes, **line)
        handles[ladder.ladder] = legend_line(ladder.ladder, colour, dashes=dashes)
    legend(axes, geometry, margins, list(handles.values()), len(handles))
    axes.set_ylabel("loss")
    mark_chosen(axes, chosen)
    return margins


def _log_ticks(losses: Sequence[Losses]) -> FixedLocator:
    """Ticks at 1, 2 and 5 times powers of ten, or five others if these are fewer than three."""
    values = [loss for ladder in losses for loss in ladder.loss if loss > 0] or [1.0]
    low, high = min(values), max(values)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) < 3:
        ticks = sorted({float(f"{tick:.3g}") for tick in np.geomspace(low, high, 5)})
    return FixedLocator(ticks)


def codec_dots(codecs: Codecs) -> Markup:
    """Draws the mean PSNR of the model and of each codec at the same size, with intervals."""
    return draw(
        "codecs",
        "Mean PSNR of the model and of codecs at the same size; the numbers are in the table",
        lambda axes, geometry: _plot_codecs(axes, geometry, codecs.rows),
        height=70 + 36 * len(codecs.rows),
    )


def _plot_codecs(axes: Axes, geometry: Geometry, rows: Sequence[Codec]) -> Margins:
    longest = max(len(row.name) for row in rows)
    for y, row in enumerate(rows):
        mean, colour = row.psnr.mean, "test" if row.key == MODEL else "soft"
        if mean is None:
            continue
        ends = row.psnr.interval or (mean, mean)
        axes.plot(ends, [y] * 2, color=COLOURS[colour], linewidth=2, marker="|", markersize=8)
        axes.plot(mean, y, marker="s", markersize=8, color=COLOURS[colour])
    axes.set_yticks(range(len(rows)), [row.name for row in rows], color=COLOURS["ink"])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("PSNR, dB")
    return Margins(min(0.66 * geometry.text * longest + 16, 0.5 * geometry.width), 20, 10, 46)


def psnr_curve(comparison: Comparison) -> Markup:
    """Draws mean PSNR on each split over epochs (logarithmic), with intervals and floors."""
    return draw(
        "curve",
        "Mean PSNR over epochs for train, val and test, with the floors; "
        "the same numbers are in the table of quality by budget",
        lambda axes, geometry: _plot_curve(axes, geometry, comparison),
    )


def _plot_curve(axes: Axes, geometry: Geometry, comparison: Comparison) -> Margins:
    lines = {split: _points(comparison.budgets, split) for split in SPLITS}
    extrapolated = _extrapolated(comparison, lines[VAL])
    epochs = [entry.epochs for entry in comparison.budgets] + [x for x, _, _ in extrapolated[1:]]
    wide = geometry.name == WIDE.name
    margins = Margins(50, 60, 48, 46) if wide else Margins(50, 48, 90, 46)
    per_pixel = log_axis(axes, geometry, margins, epochs, comparison.chosen.epochs)
    _limits(axes, comparison, [*lines.values(), extrapolated])
    handles = [legend_line("model")]
    handles += _draw_floors(axes, comparison.floors)
    ends = {split: _draw_line(axes, lines[split], split, per_pixel) for split in SPLITS}
    if comparison.baseline:
        points = _points(comparison.baseline.budgets, TEST)
        if _draw_baseline(axes, points, per_pixel):
            handles.append(legend_line("baseline, on test", "base", MARKERS["base"]))
    if extrapolated:
        ends[VAL] = _draw_line(axes, extrapolated, VAL, per_pixel, _EXTRAPOLATED_DASHES)
        handles.append(legend_line("extrapolated", "val", "^", _EXTRAPOLATED_DASHES))
    _label_ends(axes, geometry, margins, ends)
    mark_chosen(axes, comparison.chosen.epochs)
    legend(axes, geometry, margins, handles, len(handles) if wide else 2)
    axes.set_ylabel("PSNR, dB")
    return margins


def _points(budgets: Iterable[Budget], split: str) -> list[Point]:
    psnr = [(entry.epochs, entry.splits[split].psnr) for entry in budgets]
    return [(epochs, estimate.mean, estimate.interval) for epochs, estimate in psnr]


def _extrapolated(comparison: Comparison, val: Sequence[Point]) -> list[Point]:
    """The last measured point of val and the extrapolated one; empty without extrapolation."""
    extrapolation = comparison.extrapolation
    last = val[-1][1]
    if extrapolation.gain is None or last is None:
        return []
    ends = extrapolation.interval and [last + end for end in extrapolation.interval]
    end = (extrapolation.to, last + extrapolation.gain, ends)
    return [(extrapolation.from_, last, None), end]


def _limits(axes: Axes, comparison: Comparison, lines: Iterable[Sequence[Point]]) -> None:
    """Sets the limits of PSNR; a baseline far below would flatten the other curves, so it is not
    included."""
    values = [v for line in lines for _, mean, ends in line for v in (mean, *(ends or ()))]
    values += [mean for floor in _floors(comparison.floors) for mean in floor.values()]
    defined = [value for value in values if value is not None] or [0.0]
    low, high = min(defined), max(defined)
    padding = max(0.06 * (high - low), 0.05)
    axes.set_ylim(low - padding, high + padding)


def _floors(floors: Floors) -> list[dict[str, float]]:
    """The mean PSNR by split of the patch PCA and of the global PCA, where it is defined."""
    by_split = (floor.splits.items() if floor.splits else () for _, floor in floors)
    return [{name: e.mean for name, e in splits if e.mean is not None} for splits in by_split]


def _draw_floors(axes: Axes, floors: Floors) -> list[Line2D]:
    handles = []
    names = ("floor: PCA of patches", "PCA of whole images")
    for means, name, dashes in zip(_floors(floors), names, (DASHES, _GLOBAL_PCA_DASHES)):
        for split, mean in means.items():
            axes.axhline(mean, color=COLOURS[split], linewidth=1.3, linestyle=dashes, alpha=0.8)
        if means:
            handles.append(legend_line(name, dashes=dashes))
    return handles


def _draw_line(
    axes: Axes, points: Sequence[Point], colour: str, per_pixel: float, dashes: Any = "-"
) -> tuple[float, float]:
    """Draws a ladder with its intervals; returns its last point."""
    shift = per_pixel ** _OFFSETS[colour]
    drawn = [(x * shift, y, ends) for x, y, ends in points if y is not None]
    hollow = dashes != "-"
    axes.plot(
        [x for x, _, _ in drawn],
        [y for _, y, _ in drawn],
        color=COLOURS[colour],
        linestyle=dashes,
        linewidth=2.2,
        marker=MARKERS[colour],
        markersize=9 if MARKERS[colour] == "^" else 7.5,
        markeredgewidth=1,
        markeredgecolor=COLOURS[colour] if hollow else COLOURS["page"],
        markerfacecolor=COLOURS["page"] if hollow else COLOURS[colour],
        markevery=slice(1, None) if hollow else None,
        zorder=3,
    )
    bar: dict[str, Any] = {
        "linewidth": 1.3,
        "marker": "_",
        "markersize": 5,
        "alpha": 0.6,
        "zorder": 2,
    }
    for x, _, ends in drawn:
        if ends is not None:
            axes.plot([x] * 2, ends, color=COLOURS[colour], **bar)
    return (drawn[-1][0], drawn[-1][1]) if drawn else (math.nan, math.nan)


def _draw_baseline(axes: Axes, points: Sequence[Point], per_pixel: float) -> bool:
    """Draws the part of the baseline that is inside the axes; returns whether there is any."""
    low, _ = axes.get_ylim()
    inside = [y is not None and y >= low for _, y, _ in points]
    visible = [(x, y, ends if is_in else None) for (x, y, ends), is_in in zip(points, inside)]
    if any(inside):
        _draw_line(axes, visible, "base", per_pixel)
    return any(inside)


def _label_ends(
    axes: Axes, geometry: Geometry, margins: Margins, ends: Mapping[str, tuple[float, float]]
) -> None:
    low, high = axes.get_ylim()
    per_pixel = (high - low) / (geometry.height - margins.top - margins.bottom)
    lasts = {split: y for split, (x, y) in ends.items() if not math.isnan(x)}
    ys = _spread(lasts, 1.25 * geometry.text * per_pixel)
    for split in lasts:
        axes.annotate(
            split,
            (ends[split][0], ys[split]),
            xytext=(12, 0),
            textcoords="offset points",
            color=COLOURS[split],
            va="center",
            weight="bold",
            zorder=4,
        )


def _spread(positions: Mapping[str, float], gap: float) -> dict[str, float]:
    """Moves positions up until consecutive ones differ by at least `gap`."""
    result: dict[str, float] = {}
    last = -math.inf
    for name, position in sorted(positions.items(), key=lambda item: item[1]):
        last = result[name] = max(position, last + gap)
    return result
