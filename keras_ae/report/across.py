"""Writes a comparison of several runs as one HTML page that needs no network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from keras_ae.comparison.records import RunRow, Runs
from keras_ae.report.drawing import (
    COLOURS,
    WIDE,
    Geometry,
    Margins,
    draw,
    legend,
    legend_line,
    log_axis,
)
from keras_ae.report.page import environment

STYLES = (("train", "o"), ("val", "^"), ("test", "s"), ("base", "D"), ("ink", "v"), ("soft", "P"))
"""Colour and marker of each run; from the seventh run on, they repeat with dashed lines."""


def write_runs_page(runs: Runs, path: Path) -> None:
    """Writes the page of the result of `keras_ae.comparison.across.compare_runs` to a file."""
    template = environment().get_template("across.html")
    path.write_text(template.render(compared=runs, curves=psnr_curves(runs)), encoding="utf-8")


def psnr_curves(runs: Runs) -> Markup:
    """Draws the mean test PSNR of every run over epochs, with intervals."""
    return draw(
        "curves",
        "Mean test PSNR over epochs of every run; chosen budgets are in the table",
        lambda axes, geometry: _plot(axes, geometry, runs.runs),
    )


def _plot(axes: Axes, geometry: Geometry, runs: Sequence[RunRow]) -> Margins:
    columns = 3 if geometry.name == WIDE.name else 1
    rows = -(-len(runs) // columns)
    margins = Margins(66, 16, 30 + 1.5 * geometry.text * rows, 46)
    epochs = sorted({point.epochs for run in runs for point in run.curve})
    log_axis(axes, geometry, margins, epochs, runs[0].epochs)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    handles = []
    for i, run in enumerate(runs):
        colour, marker = STYLES[i % len(STYLES)]
        dashes: Any = "-" if i < len(STYLES) else (0, (4, 2))
        _draw(axes, run, colour, marker, dashes)
        handles.append(legend_line(run.name, colour, marker, dashes))
    legend(axes, geometry, margins, handles, columns)
    axes.set_ylabel("test PSNR, dB")
    return margins


def _draw(axes: Axes, run: RunRow, colour: str, marker: str, dashes: Any) -> None:
    points = [(p.epochs, p.mean, p.interval) for p in run.curve if p.mean is not None]
    style = {"color": COLOURS[colour], "linewidth": 2.0, "linestyle": dashes}
    axes.plot([x for x, _, _ in points], [y for _, y, _ in points], marker=marker, **style)
    for x, _, ends in points:
        if ends:
            axes.plot([x] * 2, ends, color=COLOURS[colour], linewidth=1.2, marker="_", alpha=0.6)
