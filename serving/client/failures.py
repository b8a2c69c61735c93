"""What goes wrong on the wire: one table of errors, and when a request is tried again."""

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
"""The exception of each gRPC status; OK stands for an answer that cannot be read."""

_TEXTS: Final = {
    e.UnavailableError: "{target} is not available ({message}): start a server there, let "
    "wait_until_ready wait for it, or send less at a time",
    e.DeadlineError: "no answer from {target} within {timeout:g} s ({message}): give a larger "
    "timeout or send smaller images",
    e.NotFoundError: "{target} does not have what was asked for ({message}): check the name of "
    "the model and the version",
    e.AccessError: "{target} refused the caller ({message}): check token and certificates",
    e.LimitError: "{target} met a limit ({message}): send less at once or raise the limit",
    e.InvalidRequestError: "{target} refused the request: {message}",
    e.ServerError: "{target} failed: {message}",
}


class TransportError(Exception):
    """A request that failed, as a transport saw it.

    Attributes:
        code: gRPC status; REST's is mapped to it.
        message: the server's or the library's words.
    """

    def __init__(self, code: StatusCode, message: str):
        super().__init__(message)
        self.code, self.message = code, message


def unreadable(what: object) -> TransportError:
    """The failure of an answer that came but cannot be read."""
    return TransportError(StatusCode.OK, f"an answer that cannot be read: {what}")


def to_error(failure: TransportError, target: str, timeout: float) -> e.ServingError:
    """The exception for a caller: where, what came, and what to do.

    Args:
        failure: what the transport saw.
        target: the server's address.
        timeout: seconds that the request had.
    """
    kind = ERRORS[failure.code]
    message = " ".join(failure.message.split()) or failure.code.name
    return kind(_TEXTS[kind].format(target=target, message=message, timeout=timeout))


class Attempts:
    """One request's deadline, and the pauses between its attempts.

    Only UNAVAILABLE is tried again, after pauses that double and vary by half, so that many clients
    do not return together.

    Args:
        target: the server's address, for messages.
        timeout: seconds for all attempts together.
        retries: most attempts after the first.
        clock: seconds, from any origin.
        first: seconds of the first pause, before it is varied.
    """

    def __init__(
        self,
        target: str,
        timeout: float,
        retries: int,
        clock: Callable[[], float] = time.monotonic,
        first: float = 0.1,
    ):
        self._target, self._timeout, self._retries = target, timeout, retries
        self._clock, self._pause = clock, first
        self._end = clock() + timeout

    def remaining(self) -> float:
        """Seconds until the deadline; never zero, which some libraries take for no deadline."""
        return max(self._end - self._clock(), 0.001)

    def pause_after(self, failure: TransportError) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            ServingError: of the failure, if another attempt is no use or comes too late.
        """
        pause = self._pause * random.uniform(0.5, 1.5)
        late = self._clock() + pause >= self._end
        if failure.code is not StatusCode.UNAVAILABLE or not self._retries or late:
            raise to_error(failure, self._target, self._timeout) from failure
        self._retries -= 1
        self._pause *= 2
        return pause
