"""Whether a server has a model ready, told from what it answers while it starts."""

import time
from collections.abc import Callable
from typing import Any

from grpc import StatusCode

from keras_ae.errors import DeadlineError, ServerError

from .failures import TransportError, to_error
from .results import VersionStatus
from .transports.base import METADATA, STATUS, Call, Model

AVAILABLE = "AVAILABLE"
FIRST_PAUSE, LONGEST_PAUSE, PROBE_TIMEOUT = 0.02, 0.25, 5.0
_NOT_YET = (StatusCode.UNAVAILABLE, StatusCode.NOT_FOUND, StatusCode.DEADLINE_EXCEEDED)


class Readiness:
    """One wait: what to ask, and what to make of the answer.

    Args:
        target: the server's address, for messages.
        model: what is waited for.
        timeout: seconds to wait at most.
        clock: seconds, from any origin.
    """

    def __init__(
        self,
        target: str,
        model: Model,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._target, self._model, self._timeout, self._clock = target, model, timeout, clock
        self._end, self._pause, self._seen = clock() + timeout, FIRST_PAUSE, ""
        # A status knows no labels; metadata of one are answered when its version is ready.
        self.call = Call(METADATA if model.label is not None else STATUS)

    def probe_timeout(self) -> float:
        """Seconds that the next question may take."""
        return min(max(self._end - self._clock(), 0.001), PROBE_TIMEOUT)

    def pause_after(self, seen: Any) -> float | None:
        """Seconds until the next question; None if the model is ready.

        Args:
            seen: the answer to `call`, or its TransportError.

        Raises:
            ServerError: if every version failed to load.
            DeadlineError: if the time is over.
            ServingError: of a failure that waiting does not mend.
        """
        words = self._not_ready(seen)
        if words is None:
            return None
        if not self._seen or getattr(seen, "code", None) is not StatusCode.DEADLINE_EXCEEDED:
            # The last question may have had no time left, and says nothing.
            self._seen = words
        left = self._end - self._clock()
        if left <= 0:
            raise DeadlineError(
                f"{self._model.name} at {self._target} is not ready after "
                f"{self._timeout:g} s: {self._seen}"
            )
        pause, self._pause = self._pause, min(self._pause * 1.5, LONGEST_PAUSE)
        return min(pause, left)

    def _not_ready(self, seen: Any) -> str | None:
        if isinstance(seen, TransportError):
            unknown_label = self._model.label is not None and (
                seen.code in (StatusCode.INVALID_ARGUMENT, StatusCode.FAILED_PRECONDITION)
            )
            if seen.code not in _NOT_YET and not unknown_label:
                raise to_error(seen, self._target, self._timeout) from seen
            return seen.message or seen.code.name
        if self.call.kind == METADATA or any(one.state == AVAILABLE for one in seen):
            return None
        if seen and all(one.state == "END" and one.error for one in seen):
            newest: VersionStatus = seen[0]
            raise ServerError(
                f"{self._target} could not load version {newest.version} of {self._model.name}: "
                f"{newest.error}"
            )
        return ", ".join(f"version {one.version} is {one.state}" for one in seen) or "no version"
