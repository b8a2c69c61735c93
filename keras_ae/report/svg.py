"""Figures drawn by Matplotlib as SVG that takes its colours and its typeface from the page."""

import io
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
