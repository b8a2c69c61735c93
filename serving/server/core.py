"""What gRPC and REST ask of the models, and how a request is refused."""

from typing import Any, Protocol

import grpc


class RequestError(Exception):
    """A request that gets a status instead of an answer.

    Attributes:
        code: the gRPC status; REST answers with the HTTP status that belongs to it.
        message: what was expected, what came, and what to do.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code, self.message = code, message


class Core(Protocol):
    """The models that are served; every method raises RequestError."""

    async def predict(self, request: Any) -> Any:
        """PredictRequest -> PredictResponse."""

    def signature(self, spec: Any, name: str) -> Any:
        """The SignatureDef that a ModelSpec and a signature name (empty: the default one) reach."""

    def metadata(self, request: Any) -> Any:
        """GetModelMetadataRequest -> GetModelMetadataResponse."""

    def status(self, request: Any) -> Any:
        """GetModelStatusRequest -> GetModelStatusResponse."""

    async def reload(self, request: Any) -> Any:
        """ReloadConfigRequest -> ReloadConfigResponse."""

    def models(self) -> list[str]:
        """The names of the models that are configured."""


def invalid(message: str) -> RequestError:
    """The error of a request that cannot be right in any state of the server."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
