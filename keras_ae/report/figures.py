"""The report's other figures: losses, and the codecs beside the model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from keras_ae.report.axes import DASHES, legend, legend_line, log_axis, mark_chosen
from keras_ae.report.svg import COLOURS, Geometry, Margins, draw


def loss_curves(comparison: Mapping[str, Any]) -> Markup:
    """Training loss over epochs, both logarithmic, of every ladder and seed."""
    return draw(
        "losses",
        "Mean training loss of each epoch, over epochs, for every ladder",
        lambda axes, geometry: _plot_losses(axes, geometry, comparison),
        height=320,
    )


def _plot_losses(axes: Axes, geometry: Geometry, comparison: Mapping[str, Any]) -> Margins:
    margins = Margins(74, 24, 48, 46)
    chosen = comparison["chosen"]["epochs"]
    budgets = [entry["epochs"] for entry in comparison["budgets"]]
    epochs = [e for ladder in comparison["losses"] for e in ladder["epochs"]]
    log_axis(axes, geometry, margins, sorted({min(epochs), *budgets, max(epochs)}), chosen)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(_log_places(comparison["losses"]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    names: dict[str, str] = {}
    for ladder in comparison["losses"]:
        colour = "base" if ladder["ladder"] == "baseline" else "train"
        names.setdefault(ladder["ladder"], colour)
        dashes = "-" if colour == "train" else DASHES
        axes.plot(
            ladder["epochs"],
            ladder["loss"],
            color=COLOURS[colour],
            linewidth=1.4,
            linestyle=dashes,
        )
    handles = [
        legend_line(name, colour, dashes="-" if colour == "train" else DASHES)
        for name, colour in names.items()
    ]
    legend(axes, geometry, margins, handles, len(handles))
    axes.set_ylabel("loss")
    mark_chosen(axes, chosen)
    return margins


def _log_places(losses: Sequence[Mapping[str, Any]]) -> FixedLocator:
    """Ticks at 1, 2 and 5 times powers of ten; five anywhere if there are fewer than three."""
    values = [loss for ladder in losses for loss in ladder["loss"] if loss > 0] or [1.0]
    low, high = min(values), max(values)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    places = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    places = [place for place in places if low <= place <= high]
    if len(places) < 3:
        places = sorted({float(f"{place:.3g}") for place in np.geomspace(low, high, 5)})
    return FixedLocator(places)


def codec_dots(comparison: Mapping[str, Any]) -> Markup:
    """Mean PSNR of the model and of each codec at the same bytes, with intervals."""
    rows = comparison["codecs"]["rows"]
    return draw(
        "codecs",
        "Mean PSNR of the model and of codecs at the same size; the numbers are in the table",
        lambda axes, geometry: _plot_codecs(axes, geometry, rows),
        height=70 + 36 * len(rows),
    )


def _plot_codecs(axes: Axes, geometry: Geometry, rows: Sequence[Mapping[str, Any]]) -> Margins:
    longest = max(len(row["name"]) for row in rows)
    for place, row in enumerate(rows):
        estimate, colour = row["psnr"], "test" if row["key"] == "model" else "soft"
        if estimate["mean"] is None:
            continue
        ends = estimate["interval"] or [estimate["mean"]] * 2
        axes.plot(ends, [place] * 2, color=COLOURS[colour], linewidth=2, marker="|", markersize=8)
        axes.plot(estimate["mean"], place, marker="s", markersize=8, color=COLOURS[colour])
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], color=COLOURS["ink"])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("PSNR, dB")
    return Margins(min(0.66 * geometry.text * longest + 16, 0.5 * geometry.width), 20, 10, 46)
