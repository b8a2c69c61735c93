"""Forecasts of the remaining training time, from the steps that were timed so far."""

import math
from collections.abc import Sequence
from typing import NamedTuple

MIN_TIMED_SECONDS = 2.0
"""Time in training steps that a forecast needs after the epoch in which they were compiled."""
MIN_TIMED_SECONDS_IN_FIRST_EPOCH = 60.0
"""Time that a forecast needs within that epoch; compilation is then a small part of it."""
MIN_FORECAST_SECONDS = 3.0
"""Shorter times are not forecast: the training would be over before the line is read."""
HOUR = 3600.0

_UNITS = (("s", 1.0), ("min", 60.0), ("h", HOUR), ("days", 24 * HOUR))


class RemainingStage(NamedTuple):
    """A stage that ends at `budget` epochs, and its remaining epochs, possibly with a fraction."""

    budget: int
    epochs: float


class SteadyRate:
    """Measures the speed of training without the time for compilation.

    A backend compiles the step for a batch size when the first batch of that size comes. After one
    epoch everything is compiled, and the measurement starts there, unless the first epoch is so
    long that a forecast cannot wait for its end.
    """

    def __init__(self) -> None:
        self._micro_batch_size = 0
        self._warm_at = 0.0
        self._first = self._last = (0.0, 0.0)

    def update(self, epochs: float, seconds: float, micro_batch_size: int) -> None:
        """Records the epochs trained so far, with a fraction, and the seconds in training steps.

        If `micro_batch_size` changes, the step is compiled again.
        """
        now = epochs, seconds
        if micro_batch_size != self._micro_batch_size:
            self._micro_batch_size, self._warm_at = micro_batch_size, epochs + 1
            self._first = now
        elif not self._warm and epochs >= self._warm_at:
            self._first = now
        self._last = now

    @property
    def _warm(self) -> bool:
        return self._first[0] >= self._warm_at

    @property
    def epochs_per_second(self) -> float:
        """The speed; 0 as long as the measured time may be mostly compilation."""
        if not self._seconds or not (self._warm or self.is_reliable):
            return 0.0
        return (self._last[0] - self._first[0]) / self._seconds

    @property
    def is_reliable(self) -> bool:
        """Whether the measured time is long enough for a forecast."""
        needed = MIN_TIMED_SECONDS if self._warm else MIN_TIMED_SECONDS_IN_FIRST_EPOCH
        return self._seconds >= needed

    @property
    def _seconds(self) -> float:
        return self._last[1] - self._first[1]


def format_forecast(
    stages: Sequence[RemainingStage], epochs_per_second: float, tiles: int, untimed: str = ""
) -> list[str]:
    """Formats the remaining training time and, above an hour, which budgets fit into one hour.

    Args:
        stages: remaining stages of all ladders that train at this speed, with epochs from 0.
        epochs_per_second: their speed, above 0.
        tiles: number of tiles in an epoch.
        untimed: other training whose speed is not known yet, such as "the baseline's 100 epochs".

    Returns:
        No line for less than `MIN_FORECAST_SECONDS`, one line, or two for more than an hour.

    Example:
        >>> stages = [RemainingStage(10, 0), RemainingStage(100, 0), RemainingStage(2000, 1900)]
        >>> format_forecast(stages, epochs_per_second=10.0, tiles=80)
        ['about 3 min of training left on this machine: 1900 epochs of 80 tiles at 800 tiles/s']
    """
    epochs = sum(stage.epochs for stage in stages)
    seconds = epochs / epochs_per_second
    if seconds < MIN_FORECAST_SECONDS:
        return []
    rate = epochs_per_second * tiles
    speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
    line = (
        f"about {format_duration(seconds)} of training left on this machine: "
        f"{_format_count(math.ceil(epochs), 'epoch')} of {_format_count(tiles, 'tile')} at "
        f"{speed} tiles/s"
    )
    line += f"; in addition {untimed}, not timed yet" if untimed else ""
    return [line, _format_hour(stages, epochs_per_second, untimed)] if seconds > HOUR else [line]


def reachable_budgets(stages: Sequence[RemainingStage], epochs: float) -> tuple[int, ...]:
    """Returns the budgets that all ladders reach with a total number of epochs, in rising order.

    Example:
        >>> one, other = [(10, 0), (100, 90)], [(10, 10), (100, 90)]
        >>> reachable_budgets([RemainingStage(*stage) for stage in one + other], epochs=150)
        (10,)
    """
    budgets = sorted({stage.budget for stage in stages})
    needed = {b: sum(stage.epochs for stage in stages if stage.budget <= b) for b in budgets}
    return tuple(budget for budget in budgets if needed[budget] <= epochs)


def format_duration(seconds: float) -> str:
    """Formats a time in the largest unit of which it is at least one, with one or two digits.

    Example:
        >>> [format_duration(seconds) for seconds in (4.2, 38, 250, 5400, 30_000, 200_000)]
        ['4 s', '40 s', '4 min', '1.5 h', '8 h', '2.5 days']
    """
    for (unit, size), (_, larger) in zip(_UNITS, (*_UNITS[1:], ("", float("inf")))):
        # From 10 s the step is 5 s; below 5 hours or days it is half an hour or half a day.
        count = seconds / size
        step = {"s": 1 if count < 10 else 5, "min": 1}.get(unit, 0.5 if count < 5 else 1)
        rounded = max(1, round(count / step) * step)
        if rounded * size < larger:
            break
    return f"{rounded:g} {'day' if unit == 'days' and rounded == 1 else unit}"


def _format_hour(stages: Sequence[RemainingStage], epochs_per_second: float, untimed: str) -> str:
    """Formats which budgets fit into an hour."""
    epochs = HOUR * epochs_per_second
    budgets = reachable_budgets(stages, epochs)
    if not budgets:
        none = "none of the budgets fits into an hour"
        if epochs < 1:
            return f"{none}; an epoch takes about {format_duration(1 / epochs_per_second)}"
        return f"{none}, which is enough for about {_format_count(math.floor(epochs), 'epoch')}"
    names, flag = (separator.join(map(str, budgets)) for separator in (", ", ","))
    return (
        f"an hour is enough for budget{'s' if len(budgets) > 1 else ''} {names}"
        + (f" (without {untimed})" if untimed else "")
        + f"; to train only these, stop the run (Ctrl-C) and start it again with --budgets {flag} "
        "(epochs that are already trained are kept)"
    )


def _format_count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"
