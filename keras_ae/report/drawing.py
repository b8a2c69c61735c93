"""Figures drawn by Matplotlib as SVG that takes its colours and its typeface from the page."""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

_NAMES = ("ink", "soft", "line", "page", "train", "val", "test", "base")
COLOURS: Final[Mapping[str, str]] = {name: f"#0a0b{i:02x}" for i, name in enumerate(_NAMES)}
"""By name of a custom property of the page's style, the colour that stands for it while drawing."""

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": COLOURS["soft"],
    "axes.formatter.useoffset": False,
    "axes.labelcolor": COLOURS["soft"],
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": False,
    "figure.dpi": 72,
    "font.family": "DejaVu Sans",
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.labelcolor": COLOURS["soft"],
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "svg.hashsalt": "keras-ae",
    "text.color": COLOURS["ink"],
    "text.parse_math": False,
    "xtick.color": COLOURS["soft"],
    "xtick.major.size": 4,
    "xtick.minor.size": 0,
    "ytick.color": COLOURS["soft"],
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}


class Geometry(NamedTuple):
    """Size of a drawing and of its text, in pixels of the SVG's view box."""

    name: str
    width: int
    height: int
    text: float


class Margins(NamedTuple):
    """Room around the axes, in pixels."""

    left: float
    right: float
    top: float
    bottom: float


DASHES = (0, (5, 4))
WIDE: Final = Geometry("wide", 880, 440, 13.0)
NARROW: Final = Geometry("narrow", 360, 380, 12.5)

Plot = Callable[[Axes, Geometry], Margins]
"""Draws into the axes and says how much room its labels need around them."""


def draw(name: str, label: str, plot: Plot, height: int | None = None) -> Markup:
    """Draws a figure once for wide screens and once for phones; the page's style shows one.

    Args:
        name: start of all ids in it.
        label: what a screen reader says of it.
        plot: draws it.
        height: of both, in pixels; that of the geometry if None.

    Returns:
        Two `svg` elements. Their text is text, in the typeface of the page, and their colours are
        custom properties of the page.
    """
    geometries = [g if height is None else g._replace(height=height) for g in (WIDE, NARROW)]
    return Markup("\n").join(_draw(name, label, plot, geometry) for geometry in geometries)


def _draw(name: str, label: str, plot: Plot, geometry: Geometry) -> Markup:
    with mpl.rc_context({**_STYLE, "font.size": geometry.text}):
        figure = Figure(figsize=(geometry.width / 72, geometry.height / 72))
        axes = figure.add_subplot()
        left, right, top, bottom = plot(axes, geometry)
        figure.subplots_adjust(
            left=left / geometry.width,
            right=1 - right / geometry.width,
            top=1 - top / geometry.height,
            bottom=bottom / geometry.height,
        )
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return Markup(_themed(buffer.getvalue(), f"{name}-{geometry.name}", label, geometry))


def _themed(svg: str, prefix: str, label: str, geometry: Geometry) -> str:
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'xlink:href="#', f'href="#{prefix}-', body)
    body = re.sub(r"url\(#", f"url(#{prefix}-", body)
    # The typeface is the page's.
    body = re.sub(r"font-family: [^;\"]+; ?", "", body)
    for name, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{name})")
    opening = (
        f'<svg class="figure {geometry.name}" role="img" aria-label="{escape(label)}" '
        f'viewBox="0 0 {geometry.width} {geometry.height}">'
    )
    return opening + body.strip()


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
