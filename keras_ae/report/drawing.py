"""Draws figures with Matplotlib, as SVG with the colours and the typeface of the page."""

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
"""Placeholder colours by name; each is replaced by the page's custom property of this name."""

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
"""Line style of floors and of the baseline."""
WIDE: Final = Geometry("wide", 880, 440, 13.0)
NARROW: Final = Geometry("narrow", 360, 380, 12.5)

Plot = Callable[[Axes, Geometry], Margins]
"""Draws into the axes, and returns the room that its labels need around them."""


def draw(name: str, label: str, plot: Plot, height: int | None = None) -> Markup:
    """Draws a figure for wide screens and for phones; the page's style shows one of them.

    Args:
        name: prefix of all ids in the figure.
        label: description for screen readers.
        plot: function that draws the figure.
        height: in pixels; None for that of the geometry.

    Returns:
        Two `svg` elements, whose text has the typeface of the page, and whose colours are custom
        properties of the page.
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
    # Without a typeface of its own, text inherits that of the page.
    body = re.sub(r"font-family: [^;\"]+; ?", "", body)
    for name, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{name})")
    opening = (
        f'<svg class="figure {geometry.name}" role="img" aria-label="{escape(label)}" '
        f'viewBox="0 0 {geometry.width} {geometry.height}">'
    )
    return opening + body.strip()


def log_axis(
    axes: Axes, geometry: Geometry, margins: Margins, epochs: Sequence[float], chosen: float
) -> float:
    """Sets up a logarithmic axis of epochs; returns the factor per pixel along it."""
    low, high = math.log10(min(epochs)), math.log10(max(epochs))
    padding = 0.05 * (high - low) or 0.3
    axes.set_xscale("log")
    axes.set_xlim(10 ** (low - padding), 10 ** (high + padding))
    width = geometry.width - margins.left - margins.right
    decades = (high - low + 2 * padding) / width
    axes.set_xticks(_ticks(epochs, chosen, 4.2 * geometry.text * decades))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.grid(axis="y")
    axes.set_xlabel("epochs")
    axes.spines["left"].set_visible(False)
    return float(10**decades)


def _ticks(epochs: Sequence[float], chosen: float, min_decades: float) -> list[float]:
    """Selects budgets whose labels do not overlap; the chosen one and the ends take precedence."""
    kept: list[float] = []
    for value in (chosen, epochs[0], epochs[-1], *reversed(epochs)):
        if all(abs(math.log10(value / other)) >= min_decades for other in kept):
            kept.append(value)
    return sorted(kept)


def legend(
    axes: Axes, geometry: Geometry, margins: Margins, handles: list[Line2D], columns: int
) -> None:
    """Draws the legend above the axes and above the label of the chosen budget."""
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
    """Makes an entry of the legend."""
    style: dict[str, Any] = {"color": COLOURS[colour], "marker": marker, "linestyle": dashes}
    return Line2D([], [], markersize=5, linewidth=1.6, label=name, **style)


def mark_chosen(axes: Axes, epochs: float) -> None:
    """Draws a labelled vertical line at the chosen budget."""
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
