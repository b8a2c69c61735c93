"""The common scale of estimates that are drawn inside a table."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Scale(NamedTuple):
    """Ends of an axis in the unit of what is drawn; it has room for zero."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Where a value lies, in per cent of the axis."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def scale(estimates: Iterable[Mapping[str, Any]]) -> Scale:
    """A scale that holds zero and all means and intervals."""
    values = [0.0]
    for estimate in estimates:
        if estimate["mean"] is not None:
            values += [estimate["mean"], *(estimate["interval"] or ())]
    low, high = min(values), max(values)
    spare = 0.04 * (high - low) or 1.0
    return Scale(low - spare, high + spare)
