"""The HTTP server: uvicorn, without its signal handlers and with limits of connections."""

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS: Final = 500
"""Requests on further connections get status 503; a process may often open 1,024 files."""
LOG_SECONDS: Final = 60.0
"""Time after which the log repeats a message of uvicorn."""
HEADER_SECONDS = 10.0
"""Time for the whole header of a request, after which its connection is closed."""


class _Protocol(H11Protocol):
    """A connection that is closed if no whole header arrives in time; uvicorn has no such limit."""

    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._time_header()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._time_header()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._stop_timer()

    def _time_header(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()
        elif not self._header_timer:
            self._header_timer = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._header_timer:
            self._header_timer.cancel()
            self._header_timer = None


class RateLimit(logging.Filter):
    """Passes each message once in `LOG_SECONDS`, with the number of those that it has not passed.

    uvicorn logs a line for each request over its limit and each invalid one, of which a client can
    send thousands per second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self._clock = clock
        self._passed_at: dict[str, float] = {}
        self._held_back: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log a record; one with an exception always is."""
        if record.exc_info:
            return True
        text, now = record.getMessage(), self._clock()
        if now - self._passed_at.get(text, -math.inf) < LOG_SECONDS:
            self._held_back[text] += 1
            return False
        self._passed_at[text] = now
        if count := self._held_back.pop(text, 0):
            record.msg, record.args = f"{text} ({count:,} more since the last line)", ()
        return True


class HttpServer(uvicorn.Server):
    """Serves an ASGI app on sockets: `serve(sockets)`; ends after `should_exit` is set."""

    def __init__(self, app: ASGIApp, grace_seconds: float):
        options = uvicorn.Config(
            app,
            http=_Protocol,
            log_config=None,
            access_log=False,
            lifespan="off",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=int(grace_seconds),
        )
        super().__init__(options)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Installs no signal handlers, since the process has its own."""
        yield
