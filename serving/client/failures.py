"""Failed requests: the exception of each gRPC status, and when a request is retried."""

import random
import time
from collections.abc import Callable
from typing import Final

from grpc import StatusCode

from keras_ae import errors as e

ERRORS: Final[dict[StatusCode, type[e.ServingError]]] = {
    StatusCode.OK: e.ServerError,
    StatusCode.CANCELLED: e.ServerError,
    StatusCode.UNKNOWN: e.ServerError,
    StatusCode.INVALID_ARGUMENT: e.InvalidRequestError,
    StatusCode.DEADLINE_EXCEEDED: e.DeadlineError,
    StatusCode.NOT_FOUND: e.NotFoundError,
    StatusCode.ALREADY_EXISTS: e.ServerError,
    StatusCode.PERMISSION_DENIED: e.AccessError,
    StatusCode.RESOURCE_EXHAUSTED: e.LimitError,
    StatusCode.FAILED_PRECONDITION: e.InvalidRequestError,
    StatusCode.ABORTED: e.ServerError,
    StatusCode.OUT_OF_RANGE: e.InvalidRequestError,
    StatusCode.UNIMPLEMENTED: e.ServerError,
    StatusCode.INTERNAL: e.ServerError,
    StatusCode.UNAVAILABLE: e.UnavailableError,
    StatusCode.DATA_LOSS: e.ServerError,
    StatusCode.UNAUTHENTICATED: e.AccessError,
}
"""The exception of each gRPC status; OK stands for a response that cannot be read."""

_MESSAGES: Final = {
    e.UnavailableError: "{target} is not available ({message}): start a server there, wait for it "
    "with wait_until_ready, or send fewer requests at a time",
    e.DeadlineError: "no response from {target} within {timeout:g} s ({message}): raise the "
    "timeout or send smaller images",
    e.NotFoundError: "{target} has no such model or version ({message}): check the name of the "
    "model and the version",
    e.AccessError: "{target} denied access ({message}): check the token and the certificates",
    e.LimitError: "the request exceeds a limit of {target} ({message}): send fewer or smaller "
    "images per request, or raise the limit",
    e.InvalidRequestError: "{target} refused the request: {message}",
    e.ServerError: "{target} failed: {message}",
}


class TransportError(Exception):
    """A failed request, before it becomes an exception of `keras_ae.errors`.

    Attributes:
        code: gRPC status; HTTP statuses are mapped to one.
        message: message of the server or of the HTTP or gRPC library.
    """

    def __init__(self, code: StatusCode, message: str):
        super().__init__(message)
        self.code, self.message = code, message


def unreadable(reason: object) -> TransportError:
    """Returns the error for a response that arrived but cannot be read."""
    return TransportError(StatusCode.OK, f"its response cannot be read: {reason}")


def to_error(failure: TransportError, target: str, timeout: float) -> e.ServingError:
    """Converts a failure to the exception that callers get, which says what to do.

    Args:
        failure: the error of the transport.
        target: address of the server.
        timeout: the request's timeout in seconds.
    """
    error_class = ERRORS[failure.code]
    message = " ".join(failure.message.split()) or failure.code.name
    return error_class(
        _MESSAGES[error_class].format(target=target, message=message, timeout=timeout)
    )


MAX_PAUSE_SECONDS = 1.0
"""The longest pause between attempts, so that a request soon notices a restarted server."""


class Attempts:
    """The attempts of one request: its deadline, and the pauses between attempts.

    Only UNAVAILABLE is retried. The pauses double up to `MAX_PAUSE_SECONDS` and have a random
    factor of 0.5 to 1.5, so that many clients do not retry at the same time.

    Args:
        target: address of the server, for messages.
        timeout: seconds for all attempts together.
        retries: largest number of retries; infinity for as many as fit into the timeout.
        clock: returns seconds, from any origin.
        first_pause: seconds of the first pause, before its random factor.
    """

    def __init__(
        self,
        target: str,
        timeout: float,
        retries: float,
        clock: Callable[[], float] = time.monotonic,
        first_pause: float = 0.1,
    ):
        self._target, self._timeout, self._retries = target, timeout, retries
        self._clock, self._pause_seconds = clock, first_pause
        self._deadline = clock() + timeout

    def remaining_seconds(self) -> float:
        """Returns the time until the deadline; never 0, which HTTP libraries take as no timeout."""
        return max(self._deadline - self._clock(), 0.001)

    def pause_after(self, failure: TransportError) -> float:
        """Returns the seconds to wait before the next attempt.

        Raises:
            ServingError: if the failure is not retried, or the deadline would be exceeded.
        """
        pause_seconds = self._pause_seconds * random.uniform(0.5, 1.5)
        is_too_late = self._clock() + pause_seconds >= self._deadline
        if failure.code is not StatusCode.UNAVAILABLE or not self._retries or is_too_late:
            raise to_error(failure, self._target, self._timeout) from failure
        self._retries -= 1
        self._pause_seconds = min(2 * self._pause_seconds, MAX_PAUSE_SECONDS)
        return pause_seconds
