"""The gRPC side: services of TensorFlow Serving, health and reflection."""

import itertools
import logging
import string
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from keras_ae.errors import ConfigurationError
from serving.server.core import Core, RequestError
from serving.wire import services
from serving.wire.protos import POOL

logger = logging.getLogger("serving.server")

MAX_MESSAGE_BYTES = 4000
"""Of an error as it is sent; it travels in a trailer, and clients allow trailers 8 KB."""
_SENT_AS_IT_IS = " " + string.punctuation.replace("%", "")


class Observer(Protocol):
    """What counts requests."""

    def observe(
        self, model_name: str, status: str, api: str, entrypoint: str, seconds: float
    ) -> None:
        """Counts a request that was answered."""


class _Services:
    """PredictionService and ModelService over a Core."""

    def __init__(self, core: Core, observer: Observer):
        self._core, self._observer = core, observer

    async def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("Predict", self._core.predict, request, context)

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("GetModelMetadata", self._core.metadata, request, context)

    async def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("GetModelStatus", self._core.status, request, context)

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer("HandleReloadConfigRequest", self._core.reload, request, context)

    async def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        await _refuse(context, "Classify")

    async def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802
        await _refuse(context, "Regress")

    async def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: N802
        await _refuse(context, "MultiInference")

    async def _answer(
        self, api: str, method: Callable[[Any], Any], request: Any, context: Any
    ) -> Any:
        begun, code = time.perf_counter(), grpc.StatusCode.CANCELLED
        try:
            answer = method(request)
            if isinstance(answer, Awaitable):
                answer = await answer
            code = grpc.StatusCode.OK
            return answer
        except RequestError as error:
            code = error.code
            await context.abort(code, _fitting(error.message))
        # A bug must neither end the server nor send its traceback.
        except Exception:
            code = grpc.StatusCode.INTERNAL
            logger.exception("%s failed", api)
            await context.abort(code, f"{api} failed; the server's log says why")
        finally:
            self._observe(api, request, code, time.perf_counter() - begun)

    def _observe(self, api: str, request: Any, code: grpc.StatusCode, seconds: float) -> None:
        name = request.model_spec.name if hasattr(request, "model_spec") else ""
        self._observer.observe(name, code.name, api, "GRPC", seconds)


def _fitting(message: str) -> str:
    """What fits of an error's message; gRPC sends what is not printable ASCII as "%XX"."""
    sent = (quote(character, safe=_SENT_AS_IT_IS, errors="replace") for character in message)
    sizes = itertools.accumulate(map(len, sent))
    return message[: sum(1 for _ in itertools.takewhile(MAX_MESSAGE_BYTES.__ge__, sizes))]


async def _refuse(context: Any, name: str) -> None:
    await context.abort(
        grpc.StatusCode.UNIMPLEMENTED, f"{name} is not served: call Predict instead"
    )


class Health:
    """The health service: SERVING while every configured model has an available version.

    That is what a readiness probe wants: a server without its model gets no requests. A liveness
    probe should look at the port only, since a restart does not make a model appear.
    """

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()
        self._draining = False

    async def set(self, ready: bool) -> None:
        """Says whether requests can be answered, unless the server is going away."""
        state = health_pb2.HealthCheckResponse
        status = state.SERVING if ready and not self._draining else state.NOT_SERVING
        for name in ("", services.PREDICTION, services.MODEL):
            await self.servicer.set(name, status)

    async def drain(self) -> None:
        """Says NOT_SERVING from now on."""
        self._draining = True
        await self.set(False)


def build(
    core: Core,
    observer: Observer,
    health_state: Health,
    *,
    max_message_bytes: int,
    arguments: Sequence[tuple[str, int | str]] = (),
) -> Any:
    """A grpc.aio server with every service, not started and bound to nothing.

    Args:
        core: what answers.
        observer: counts requests.
        health_state: what the health service says.
        max_message_bytes: largest request; answers are not limited.
        arguments: of the channel, which override everything else.
    """
    options = {
        "grpc.max_receive_message_length": max_message_bytes,
        "grpc.max_send_message_length": -1,
        # A port that another server has is an error, not a share of its requests.
        "grpc.so_reuseport": 0,
        **dict(arguments),
    }
    server = grpc.aio.server(options=list(options.items()))
    servicer = _Services(core, observer)
    for service in (services.PREDICTION, services.MODEL):
        services.add_servicer(service, servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(health_state.servicer, server)
    # Reflection describes services out of one pool.
    for module in (health_pb2, reflection_pb2):
        POOL.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    names = (services.PREDICTION, services.MODEL, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, POOL)
    return server


def credentials(ssl: Any) -> grpc.ServerCredentials:
    """What an SSLConfig asks for: a certificate, and perhaps one of each client too."""
    pair = (ssl.server_key.encode(), ssl.server_cert.encode())
    authority = ssl.custom_ca.encode() or None
    return grpc.ssl_server_credentials([pair], authority, ssl.client_verify)


def listen(server: Any, address: str, ssl: Any) -> int:
    """Binds a server to "host:port" or "unix:path"; returns the port.

    Raises:
        ConfigurationError: if the address cannot be bound or the certificate is none.
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
    """The address of a Unix socket; what an earlier server left there is removed."""
    socket = Path(path.removeprefix("unix:")).absolute()
    if socket.is_socket():
        socket.unlink()
    return f"unix:{socket}"
