"""Waiting for a model: whether a server has loaded it, judged by the server's responses."""

import time
from collections.abc import Callable

from grpc import StatusCode

from keras_ae.errors import DeadlineError, ServerError

from .failures import TransportError, to_error
from .results import Metadata, VersionStatus
from .transports.base import METADATA, STATUS, Call, Model

AVAILABLE = "AVAILABLE"
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, PROBE_TIMEOUT_SECONDS = 0.02, 0.25, 5.0
Response = Metadata | list[VersionStatus] | TransportError
_TEMPORARY_CODES = (StatusCode.UNAVAILABLE, StatusCode.NOT_FOUND, StatusCode.DEADLINE_EXCEEDED)


class Readiness:
    """The state of one wait for a model.

    Args:
        target: address of the server, for messages.
        model: the model, version or label to wait for.
        timeout: seconds to wait at most.
        clock: returns seconds, from any origin.

    Attributes:
        call: the request to probe the server with.
    """

    def __init__(
        self,
        target: str,
        model: Model,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._target, self._model, self._timeout, self._clock = target, model, timeout, clock
        self._deadline, self._pause_seconds = clock() + timeout, FIRST_PAUSE_SECONDS
        self._last_reason = ""
        # The status of versions has no labels; metadata of a label exist once its version is ready.
        self.call = Call(METADATA if model.label is not None else STATUS)

    def probe_timeout(self) -> float:
        """Returns the timeout of the next probe in seconds."""
        return min(max(self._deadline - self._clock(), 0.001), PROBE_TIMEOUT_SECONDS)

    def pause_after(self, response: Response) -> float | None:
        """Returns the seconds until the next probe; None if the model is ready.

        Args:
            response: the response to `call`, or its TransportError.

        Raises:
            ServerError: if every version failed to load.
            DeadlineError: if the timeout has passed.
            ServingError: if a request failed and waiting does not help.
        """
        reason = self._reason_not_ready(response)
        if reason is None:
            return None
        timed_out = (
            isinstance(response, TransportError) and response.code is StatusCode.DEADLINE_EXCEEDED
        )
        if not self._last_reason or not timed_out:
            # The last probe may time out for lack of remaining time, which explains nothing.
            self._last_reason = reason
        remaining_seconds = self._deadline - self._clock()
        if remaining_seconds <= 0:
            raise DeadlineError(
                f"{self._model.name} at {self._target} is not ready after "
                f"{self._timeout:g} s: {self._last_reason}"
            )
        pause_seconds = min(self._pause_seconds, remaining_seconds)
        self._pause_seconds = min(self._pause_seconds * 1.5, MAX_PAUSE_SECONDS)
        return pause_seconds

    def _reason_not_ready(self, response: Response) -> str | None:
        if isinstance(response, TransportError):
            unknown_label = self._model.label is not None and (
                response.code in (StatusCode.INVALID_ARGUMENT, StatusCode.FAILED_PRECONDITION)
            )
            if response.code not in _TEMPORARY_CODES and not unknown_label:
                raise to_error(response, self._target, self._timeout) from response
            return response.message or response.code.name
        if isinstance(response, Metadata) or any(v.state == AVAILABLE for v in response):
            return None
        if response and all(v.state == "END" and v.error for v in response):
            newest = response[0]
            raise ServerError(
                f"{self._target} could not load version {newest.version} of {self._model.name}: "
                f"{newest.error}"
            )
        return ", ".join(f"version {v.version} is {v.state}" for v in response) or "no version"
