"""Formats numbers for pages."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from keras_ae.storage import format_bytes

NONE = Markup("&ndash;")
"""Replacement for a missing number."""


def decimal(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """Formats a number with a fixed number of decimals; `sign` also writes a plus."""
    if value is None:
        return NONE
    return f"{value:{'+' if sign else ''},.{digits}f}"


def interval(ends: Sequence[float] | None, digits: int = 2, sign: bool = False) -> str:
    """Formats an interval, such as "28.72 to 30.26"."""
    if ends is None:
        return NONE
    low, high = ends
    return f"{decimal(low, digits, sign)} to {decimal(high, digits, sign)}"


def p_value(p: float | None) -> str:
    """Formats a p-value with three decimals."""
    if p is None:
        return NONE
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def count(value: float | None) -> str:
    """Formats a whole number with separators of thousands."""
    return NONE if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Formats seconds: "0.8 s", "52 s", "3 min 09 s", "2 h 05 min", "3 d 04 h"."""
    if seconds is None:
        return NONE
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, part, part_size in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part_size:02} {part}"
    return f"{whole} s"


def size(count_of_bytes: float | None) -> str:
    """Formats bytes with a decimal unit, such as "36.2 MB"."""
    return NONE if count_of_bytes is None else format_bytes(count_of_bytes)


def sentence(text: str) -> str:
    """Adds a capital letter and a full stop to a text."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


FILTERS: dict[str, Any] = {
    each.__name__: each for each in (decimal, interval, p_value, count, duration, size, sentence)
}
"""Filters of the templates, by name."""
