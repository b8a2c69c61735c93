"""What figures over epochs share: the axis, the legend and the mark of the chosen budget."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from keras_ae.report.svg import COLOURS, WIDE, Geometry, Margins

DASHES = (0, (5, 4))
"""Of lines that are not the model's own."""


def log_axis(
    axes: Axes, geometry: Geometry, margins: Margins, epochs: Sequence[float], chosen: float
) -> float:
    """Sets up the axis of epochs; returns the factor that one pixel along it stands for."""
    low, high = math.log10(min(epochs)), math.log10(max(epochs))
    spare = 0.05 * (high - low) or 0.3
    axes.set_xscale("log")
    axes.set_xlim(10 ** (low - spare), 10 ** (high + spare))
    width = geometry.width - margins.left - margins.right
    decades = (high - low + 2 * spare) / width
    axes.set_xticks(_ticks(epochs, chosen, 4.2 * geometry.text * decades))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.grid(axis="y")
    axes.set_xlabel("epochs")
    axes.spines["left"].set_visible(False)
    return float(10**decades)


def _ticks(epochs: Sequence[float], chosen: float, apart: float) -> list[float]:
    """Budgets whose labels do not touch, the chosen one and the ends before others."""
    kept: list[float] = []
    for value in (chosen, epochs[0], epochs[-1], *reversed(epochs)):
        if all(abs(math.log10(value / other)) >= apart for other in kept):
            kept.append(value)
    return sorted(kept)


def legend(
    axes: Axes, geometry: Geometry, margins: Margins, handles: list[Line2D], columns: int
) -> None:
    """Above the axes, and above what is written at their upper edge."""
    width = geometry.width - margins.left - margins.right
    height = geometry.height - margins.top - margins.bottom
    left = 0.0 if geometry.name == WIDE.name else (4 - margins.left) / width
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(left, 1 + 26 / height),
        ncols=columns,
        borderaxespad=0,
        borderpad=0,
        handlelength=2.0,
        columnspacing=1.2,
    )


def legend_line(name: str, colour: str = "soft", marker: str = "", dashes: Any = "-") -> Line2D:
    """An entry of the legend."""
    return Line2D(
        [],
        [],
        color=COLOURS[colour],
        marker=marker,
        markersize=5,
        linestyle=dashes,
        linewidth=1.6,
        label=name,
    )


def mark_chosen(axes: Axes, epochs: float) -> None:
    """A line at the chosen budget, with its name above."""
    axes.axvline(epochs, color=COLOURS["soft"], linewidth=1, zorder=1)
    axes.annotate(
        "chosen",
        (epochs, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        color=COLOURS["ink"],
        weight="bold",
    )
