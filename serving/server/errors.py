"""The error of a refused request."""

from grpc import StatusCode


class RequestError(Exception):
    """An error that a request is answered with.

    Attributes:
        code: the gRPC status, which REST maps to an HTTP status.
        message: what was expected, what was received, and what to do.
    """

    def __init__(self, code: StatusCode, message: str):
        super().__init__(message)
        self.code, self.message = code, message


def invalid(message: str) -> RequestError:
    """Returns the error of a request that is invalid in any state of the server."""
    return RequestError(StatusCode.INVALID_ARGUMENT, message)
