"""Returns freed memory to the system, which malloc keeps for itself."""

import asyncio
import contextlib
import ctypes
from typing import Final

LARGE_BYTES: Final = 16 * 2**20
"""Requests of more bytes leave memory behind that is worth returning."""


def trim() -> None:
    """Returns freed memory to the system; takes milliseconds, and does nothing without glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Trimmer:
    """Trims after large requests: once for all that are answered within `delay_seconds`."""

    def __init__(self, delay_seconds: float = 1.0) -> None:
        self._delay_seconds, self._is_due = delay_seconds, False

    def answered(self, request_bytes: int) -> None:
        """Trims later if the request was large; called on the event loop."""
        if request_bytes > LARGE_BYTES and not self._is_due:
            self._is_due = True
            # gRPC holds the request until its status has been sent.
            asyncio.get_running_loop().call_later(self._delay_seconds, self._trim)

    def _trim(self) -> None:
        self._is_due = False
        asyncio.get_running_loop().run_in_executor(None, trim)
