"""Returns freed memory to the system, which malloc keeps for itself."""

import asyncio
import contextlib
import ctypes


def trim() -> None:
    """Returns freed memory to the system; takes milliseconds, and does nothing without glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Trimmer:
    """Trims after requests: once for all that are answered within `delay_seconds`.

    A small request may have taken gigabytes, such as a PNG of one colour, and what it computed may
    end after it was cancelled: so its size does not matter, and the delay is longer than that.
    """

    def __init__(self, delay_seconds: float = 5.0) -> None:
        self._delay_seconds, self._is_due = delay_seconds, False

    def answered(self) -> None:
        """Trims later; called on the event loop."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(self._delay_seconds, self._trim)

    def _trim(self) -> None:
        self._is_due = False
        asyncio.get_running_loop().run_in_executor(None, trim)
