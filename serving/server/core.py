"""The interface between the frontends and the models, and the error of a refused request."""

from typing import Protocol

import grpc

from serving.wire.protos import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelSpec,
    PredictRequest,
    PredictResponse,
    ReloadConfigRequest,
    ReloadConfigResponse,
    SignatureDef,
)


class RequestError(Exception):
    """An error that a request is answered with.

    Attributes:
        code: the gRPC status, which REST maps to an HTTP status.
        message: what was expected, what was received, and what to do.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code, self.message = code, message


class Core(Protocol):
    """The served models. Every method raises RequestError."""

    async def predict(self, request: PredictRequest) -> PredictResponse:
        """Calls a signature of a model."""

    def signature(self, spec: ModelSpec, name: str) -> SignatureDef:
        """Returns a signature of a model; the default one if the name is empty."""

    def metadata(self, request: GetModelMetadataRequest) -> GetModelMetadataResponse:
        """Returns the signatures of a model."""

    def status(self, request: GetModelStatusRequest) -> GetModelStatusResponse:
        """Returns the states of a model's versions."""

    async def reload(self, request: ReloadConfigRequest) -> ReloadConfigResponse:
        """Replaces the configuration of the models."""

    def models(self) -> list[str]:
        """Returns the names of the configured models."""


def invalid(message: str) -> RequestError:
    """Returns the error of a request that is invalid in any state of the server."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
