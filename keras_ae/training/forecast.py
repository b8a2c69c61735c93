"""How long the training ahead takes, in words, from the steps that were timed so far."""

import math
from collections.abc import Sequence
from typing import NamedTuple

TIMED_SECONDS = 2.0
"""Of training steps, after the epoch in which they were compiled, that a first forecast needs."""
TIMED_IN_FIRST_EPOCH = 60.0
"""Seconds that it needs within that epoch; compilation is then a small part of them."""
WORTH_SECONDS = 3.0
"""Below this nothing is forecast: the training is over before the line is read."""
HOUR = 3600.0

_UNITS = (("s", 1.0), ("min", 60.0), ("h", HOUR), ("days", 24 * HOUR))


class Work(NamedTuple):
    """Training that is ahead of one ladder.

    Attributes:
        budget: where it ends, in epochs from the beginning of the ladder.
        epochs: left from the budget before to this one, perhaps with a fraction.
    """

    budget: int
    epochs: float


class SteadyRate:
    """The speed of training without the time that compilation takes.

    The backend compiles the step for a batch size when the first such batch comes, so that after
    one epoch all of it is compiled. The measurement starts there, unless the first epoch is so long
    that a forecast cannot wait for its end.
    """

    def __init__(self) -> None:
        self._micro_batch_size = 0
        self._warm_at = 0.0
        self._first = self._last = (0.0, 0.0)

    def update(self, epochs: float, seconds: float, micro_batch_size: int) -> None:
        """Notes how far training is.

        Args:
            epochs: trained so far, with the fraction of the present one.
            seconds: spent in training steps so far, counted from any moment.
            micro_batch_size: most tiles in a forward pass; for another one all is compiled anew.
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
        """The speed; 0 as long as all that was measured may be compilation."""
        if not self._seconds or not (self._warm or self.settled):
            return 0.0
        return (self._last[0] - self._first[0]) / self._seconds

    @property
    def settled(self) -> bool:
        """Whether it was measured for long enough to forecast from."""
        return self._seconds >= (TIMED_SECONDS if self._warm else TIMED_IN_FIRST_EPOCH)

    @property
    def _seconds(self) -> float:
        return self._last[1] - self._first[1]


def lines(
    ahead: Sequence[Work], epochs_per_second: float, tiles: int, untimed: str = ""
) -> list[str]:
    """The lines that say how long the training ahead takes and, above an hour, what fits into one.

    Args:
        ahead: what is left, of all ladders that train at this speed; none with epochs below 0.
        epochs_per_second: of these ladders, above 0.
        tiles: in an epoch.
        untimed: what else will be trained, at a speed that nobody knows yet, such as "the
            baseline's 100 epochs".

    Returns:
        No line if it is over in a moment, one line, or two if it takes more than an hour.

    Example:
        >>> ahead = [Work(10, 0), Work(100, 0), Work(2000, 1900)]
        >>> lines(ahead, epochs_per_second=10.0, tiles=80)
        ['about 3 min of training left on this machine: 1900 epochs of 80 tiles at 800 tiles/s']
    """
    epochs = sum(work.epochs for work in ahead)
    seconds = epochs / epochs_per_second
    if seconds < WORTH_SECONDS:
        return []
    work = f"{_count(math.ceil(epochs), 'epoch')} of {_count(tiles, 'tile')}"
    line = (
        f"about {duration(seconds)} of training left on this machine: {work} at "
        f"{_speed(epochs_per_second * tiles)} tiles/s"
    )
    line += f"; {untimed} come on top, not timed yet" if untimed else ""
    return [line] if seconds <= HOUR else [line, _within_an_hour(ahead, epochs_per_second, untimed)]


def fitting(ahead: Sequence[Work], epochs: float) -> tuple[int, ...]:
    """The budgets that a number of epochs is enough for, in rising order.

    Each takes what is ahead of every ladder up to it.

    Example:
        >>> fitting([Work(10, 0), Work(100, 90), Work(10, 10), Work(100, 90)], epochs=150)
        (10,)
    """
    budgets = sorted({work.budget for work in ahead})
    needed = {b: sum(work.epochs for work in ahead if work.budget <= b) for b in budgets}
    return tuple(budget for budget in budgets if needed[budget] <= epochs)


def duration(seconds: float) -> str:
    """A time as one says it: in the largest unit of which there is one, to two digits at most.

    Example:
        >>> [duration(seconds) for seconds in (4.2, 38, 250, 5400, 30_000, 200_000)]
        ['4 s', '40 s', '4 min', '1.5 h', '8 h', '2.5 days']
    """
    for (unit, size), (_, larger) in zip(_UNITS, (*_UNITS[1:], ("", float("inf")))):
        # Steps of 5 s from ten seconds on, and of half an hour or half a day up to five of them.
        count = seconds / size
        step = {"s": 1 if count < 10 else 5, "min": 1}.get(unit, 0.5 if count < 5 else 1)
        rounded = max(1, round(count / step) * step)
        if rounded * size < larger:
            break
    return f"{rounded:g} {'day' if unit == 'days' and rounded == 1 else unit}"


def _within_an_hour(ahead: Sequence[Work], epochs_per_second: float, untimed: str) -> str:
    epochs = HOUR * epochs_per_second
    budgets = fitting(ahead, epochs)
    if not budgets:
        enough = f"in which about {_count(math.floor(epochs), 'epoch')} can be trained"
        if epochs < 1:
            enough = f"an epoch takes about {duration(1 / epochs_per_second)}"
        return f"none of the budgets fits into an hour, {enough}"
    names, flag = ((sign.join(map(str, budgets))) for sign in (", ", ","))
    return (
        f"an hour is enough for budget{'s' if len(budgets) > 1 else ''} {names}"
        + (" (what is not timed yet left out)" if untimed else "")
        + f": to have no more, stop the run (Ctrl-C) and start it again with --budgets {flag}; "
        "what is trained of them is kept"
    )


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def _speed(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
