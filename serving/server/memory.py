"""Returns freed memory to the system, which malloc keeps for itself."""

import asyncio
import contextlib
import ctypes


def trim() -> None:
    """Returns freed memory to the system; takes milliseconds, and does nothing without glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Trimmer:
    """Trims `delay_seconds` after requests, and once more that much later.

    A small request may have taken gigabytes, such as a PNG of one colour, and what it computed may
    end after it was cancelled: so its size does not matter, and it may end between two trims.
    """

    def __init__(self, delay_seconds: float = 5.0) -> None:
        self._delay_seconds, self._remaining = delay_seconds, 0

    def answered(self) -> None:
        """Trims later; called on the event loop."""
        if not self._remaining:
            self._schedule()
        self._remaining = 2

    def _schedule(self) -> None:
        asyncio.get_running_loop().call_later(self._delay_seconds, self._trim)

    def _trim(self) -> None:
        self._remaining -= 1
        asyncio.get_running_loop().run_in_executor(None, trim)
        if self._remaining:
            self._schedule()
