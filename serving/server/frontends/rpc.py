"""The gRPC server: TensorFlow Serving's services, health and reflection."""

import itertools
import logging
import string
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import grpc
from google.protobuf.message import Message
from grpc.aio import ServicerContext
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from keras_ae.errors import ConfigurationError
from serving.server.core import Core, RequestError
from serving.wire import services
from serving.wire.protos import (
    POOL,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    PredictRequest,
    ReloadConfigRequest,
)

logger = logging.getLogger("serving.server")

MAX_ERROR_BYTES = 4000
"""Size of the longest error message, which is sent in a trailer; clients allow trailers of 8 KB."""
_UNQUOTED = " " + string.punctuation.replace("%", "")


class Observer(Protocol):
    """Counts requests."""

    def observe(
        self, model_name: str, status: str, api: str, entrypoint: str, seconds: float
    ) -> None:
        """Counts a request, see `Metrics.observe`."""


class _Services:
    """PredictionService and ModelService, whose requests a Core answers."""

    def __init__(self, core: Core, observer: Observer):
        self._core, self._observer = core, observer

    async def Predict(self, request: PredictRequest, context: ServicerContext) -> Any:  # noqa: N802
        return await self._answer("Predict", self._core.predict, request, context)

    async def GetModelMetadata(  # noqa: N802
        self, request: GetModelMetadataRequest, context: ServicerContext
    ) -> Any:
        return await self._answer("GetModelMetadata", self._core.metadata, request, context)

    async def GetModelStatus(  # noqa: N802
        self, request: GetModelStatusRequest, context: ServicerContext
    ) -> Any:
        return await self._answer("GetModelStatus", self._core.status, request, context)

    async def HandleReloadConfigRequest(  # noqa: N802
        self, request: ReloadConfigRequest, context: ServicerContext
    ) -> Any:
        return await self._answer("HandleReloadConfigRequest", self._core.reload, request, context)

    async def Classify(self, request: Message, context: ServicerContext) -> None:  # noqa: N802
        await _refuse(context, "Classify")

    async def Regress(self, request: Message, context: ServicerContext) -> None:  # noqa: N802
        await _refuse(context, "Regress")

    async def MultiInference(self, request: Message, context: ServicerContext) -> None:  # noqa: N802
        await _refuse(context, "MultiInference")

    async def _answer(
        self, api: str, method: Callable[[Any], Any], request: Message, context: ServicerContext
    ) -> Any:
        started, code = time.perf_counter(), grpc.StatusCode.CANCELLED
        try:
            response = method(request)
            if isinstance(response, Awaitable):
                response = await response
            code = grpc.StatusCode.OK
            return response
        except RequestError as error:
            code = error.code
            await context.abort(code, _truncate(error.message))
        # A bug must neither stop the server nor send its traceback to the client.
        except Exception:
            code = grpc.StatusCode.INTERNAL
            logger.exception("%s failed", api)
            await context.abort(code, f"{api} failed; see the server's log")
        finally:
            self._observe(api, request, code, time.perf_counter() - started)

    def _observe(self, api: str, request: Message, code: grpc.StatusCode, seconds: float) -> None:
        name = request.model_spec.name if hasattr(request, "model_spec") else ""
        self._observer.observe(name, code.name, api, "GRPC", seconds)


def _truncate(message: str) -> str:
    """Truncates an error message to the bytes that it may have once gRPC has percent-encoded it."""
    encoded = (quote(character, safe=_UNQUOTED, errors="replace") for character in message)
    sizes = itertools.accumulate(map(len, encoded))
    return message[: sum(1 for _ in itertools.takewhile(MAX_ERROR_BYTES.__ge__, sizes))]


async def _refuse(context: ServicerContext, name: str) -> None:
    await context.abort(
        grpc.StatusCode.UNIMPLEMENTED, f"{name} is not supported: call Predict instead"
    )


class Health:
    """The health service: SERVING while every configured model has an available version.

    A readiness probe can use it, so that a server without its model gets no requests. A liveness
    probe should only check the port, since a restart does not bring a missing model.
    """

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()
        self._draining = False

    async def set(self, ready: bool) -> None:
        """Reports whether the server can answer requests; a draining server never can."""
        statuses = health_pb2.HealthCheckResponse
        status = statuses.SERVING if ready and not self._draining else statuses.NOT_SERVING
        for name in ("", services.PREDICTION, services.MODEL):
            await self.servicer.set(name, status)

    async def drain(self) -> None:
        """Reports NOT_SERVING from now on."""
        self._draining = True
        await self.set(False)


def build(
    core: Core,
    observer: Observer,
    health_state: Health,
    *,
    max_message_bytes: int,
    arguments: Sequence[tuple[str, int | str]] = (),
) -> grpc.aio.Server:
    """Creates a gRPC server with all services, neither started nor bound to an address.

    Args:
        core: the models that answer requests.
        observer: counts requests.
        health_state: the state that the health service reports.
        max_message_bytes: size of the largest request; responses are not limited.
        arguments: channel arguments, which override all others.
    """
    options = {
        "grpc.max_receive_message_length": max_message_bytes,
        "grpc.max_send_message_length": -1,
        # Fails if another server uses the port, instead of sharing its requests.
        "grpc.so_reuseport": 0,
        **dict(arguments),
    }
    server = grpc.aio.server(options=list(options.items()))
    servicer = _Services(core, observer)
    for service in (services.PREDICTION, services.MODEL):
        services.add_servicer(service, servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(health_state.servicer, server)
    # Reflection looks all services up in one descriptor pool.
    for module in (health_pb2, reflection_pb2):
        POOL.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    names = (services.PREDICTION, services.MODEL, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, POOL)
    return server


def credentials(ssl: Message) -> grpc.ServerCredentials:
    """Returns the credentials of an SSLConfig, which may require certificates of clients."""
    pair = (ssl.server_key.encode(), ssl.server_cert.encode())
    authority = ssl.custom_ca.encode() or None
    return grpc.ssl_server_credentials([pair], authority, ssl.client_verify)


def listen(server: grpc.aio.Server, address: str, ssl: Message | None) -> int:
    """Binds a server to "host:port" or "unix:path"; returns the port.

    Raises:
        ConfigurationError: if the address cannot be bound, or the certificate is not valid.
    """
    try:
        if ssl is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials(ssl)))
    except RuntimeError as error:
        raise ConfigurationError(
            f"cannot listen on {address}: in use, not allowed, or the certificate is not valid"
        ) from error


def socket_address(path: str) -> str:
    """Returns the address of a Unix socket; removes the socket file of an earlier server."""
    socket = Path(path.removeprefix("unix:")).absolute()
    if socket.is_socket():
        socket.unlink()
    return f"unix:{socket}"
