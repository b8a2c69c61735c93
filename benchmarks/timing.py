"""Wall-clock time of a function."""

import time
from collections.abc import Callable


def measure_seconds(function: Callable[[], object]) -> float:
    """Calls a function once and returns the seconds that it took."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure_rate(function: Callable[[], object], amount: float, repeats: int) -> float:
    """The highest amount per second over several calls, after a first call that may compile."""
    function()
    return amount / min(measure_seconds(function) for _ in range(repeats))
