"""The gRPC server: TensorFlow Serving's services, health and reflection."""

import asyncio
import itertools
import logging
import string
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError, Message
from grpc.aio import ServicerContext
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from keras_ae.errors import ConfigurationError
from serving.server.errors import RequestError
from serving.server.flags import Flags
from serving.server.frontends import inference
from serving.server.frontends.http_server import HEADER_SECONDS, MAX_CONNECTIONS
from serving.server.frontends.metrics import Metrics
from serving.server.memory import Trimmer
from serving.server.models.manager import Manager
from serving.server.models.servable import Outputs
from serving.wire import services
from serving.wire.packing import delimited
from serving.wire.protos import POOL, ModelSpec, PredictResponse
from serving.wire.tensors import serialize

logger = logging.getLogger("serving.server")

MAX_CALLS = 500
"""Calls in flight, further ones of which are refused: they would wait for seconds, and hold memory.
"""
MAX_ERROR_BYTES = 4000
"""Size of the longest error message, which is sent in a trailer; clients allow trailers of 8 KB."""
_UNQUOTED = " " + string.punctuation.replace("%", "")


class Calls:
    """The calls in flight, which a server that stops finishes while it refuses new ones.

    gRPC's own shutdown ends calls that arrive meanwhile as CANCELLED, which clients do not retry.
    """

    def __init__(self) -> None:
        self._count = 0
        self._draining = False

    def begin(self, context: ServicerContext) -> None:
        """Counts a call until its response is sent.

        Raises RequestError UNAVAILABLE, which clients retry, if draining or at `MAX_CALLS`.
        """
        if self._draining:
            raise RequestError(grpc.StatusCode.UNAVAILABLE, "the server is stopping: try again")
        if self._count >= MAX_CALLS:
            message = f"{MAX_CALLS} requests are in flight: try again later"
            raise RequestError(grpc.StatusCode.UNAVAILABLE, message)
        self._count += 1
        context.add_done_callback(self._end)

    async def drain(self, seconds: float) -> None:
        """Refuses new calls from now on, and waits until there are none or the time is over."""
        self._draining, deadline = True, time.monotonic() + seconds
        while self._count and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    def _end(self, _: object) -> None:
        self._count -= 1


async def _answer(
    method: Callable[[Any, int], Any],
    request_class: type[Message],
    api: str,
    metrics: Metrics,
    calls: Calls,
    trimmer: Trimmer,
    data: bytes,
    context: ServicerContext,
) -> Any:
    started, code, name = time.perf_counter(), grpc.StatusCode.CANCELLED, ""
    try:
        calls.begin(context)
        request = _parse(request_class, data)
        name = request.model_spec.name if hasattr(request, "model_spec") else ""
        # Not `ByteSize`, which serializes the request: 0.3 s for one of 200 MB.
        response = method(request, len(data))
        if isinstance(response, Awaitable):
            response = await response
        code = grpc.StatusCode.OK
        return response
    except RequestError as error:
        code = error.code
        _set_status(context, error, code, error.message)
    except Exception as error:
        # Only a bug comes here: it must neither stop the server nor send a client its traceback.
        code = grpc.StatusCode.INTERNAL
        logger.exception("%s failed", api)
        _set_status(context, error, code, f"{api} failed; see the server's log")
    finally:
        metrics.observe(name, code.name, api, "GRPC", time.perf_counter() - started)
        trimmer.answered()


def _parse(request_class: type[Message], data: bytes) -> Any:
    try:
        return request_class.FromString(data)
    except DecodeError as error:
        message = f"the request is not a {request_class.DESCRIPTOR.name}: {error}"
        raise RequestError(grpc.StatusCode.INTERNAL, message) from error


def _set_status(
    context: ServicerContext, error: Exception, code: grpc.StatusCode, message: str
) -> None:
    """Sets the status of an error, and frees the request, which may have hundreds of megabytes.

    The frames of a traceback hold it, and refer to the error by their futures, as they would to the
    exception of `context.abort`: cycles, which Python's garbage collector may free much later.
    """
    error.__traceback__ = None
    context.set_code(code)
    context.set_details(_truncate(message))


def _truncate(message: str) -> str:
    """Truncates an error message to the bytes that it may have once gRPC has percent-encoded it."""
    encoded = (quote(character, safe=_UNQUOTED, errors="replace") for character in message)
    sizes = itertools.accumulate(map(len, encoded))
    return message[: sum(1 for _ in itertools.takewhile(MAX_ERROR_BYTES.__ge__, sizes))]


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


class _ReflectedPool:
    """The descriptor pool of all services, which finds the names of methods as well.

    protobuf's own finds only services and messages, where clients such as grpcurl ask for
    "package.Service.Method".
    """

    def __init__(self) -> None:
        for module in (health_pb2, reflection_pb2):
            POOL.AddSerializedFile(module.DESCRIPTOR.serialized_pb)

    def __getattr__(self, name: str) -> Any:
        return getattr(POOL, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802
        """Returns the file that declares a symbol; raises KeyError if there is none."""
        try:
            return POOL.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            return POOL.FindServiceByName(service).methods_by_name[method].containing_service.file


def build(
    manager: Manager, metrics: Metrics, health_state: Health, calls: Calls, flags: Flags
) -> grpc.aio.Server:
    """Creates a gRPC server with all services, neither started nor bound to an address."""
    options = {
        "grpc.max_receive_message_length": flags.max_message_bytes,
        "grpc.max_send_message_length": -1,
        "grpc.max_allowed_incoming_connections": MAX_CONNECTIONS,
        # Closes connections that do not begin to speak HTTP/2.
        "grpc.server_handshake_timeout_ms": int(HEADER_SECONDS * 1000),
        # Fails if another server uses the port, instead of sharing its requests.
        "grpc.so_reuseport": 0,
        **dict(flags.channel_arguments),
    }
    server = grpc.aio.server(options=list(options.items()))
    convert = partial(to_response, as_content=flags.tensor_content)
    methods: dict[str, Callable[[Any, int], Any]] = {
        "Predict": partial(manager.predict, convert=convert),
        "Classify": lambda request, _: inference.refuse_request(manager, "Classify", request),
        "Regress": lambda request, _: inference.refuse_request(manager, "Regress", request),
        "MultiInference": lambda request, _: inference.multi_inference(manager, request),
        "GetModelMetadata": lambda request, _: manager.metadata(request),
        "GetModelStatus": lambda request, _: manager.status(request),
        "HandleReloadConfigRequest": lambda request, _: manager.reload(request),
    }
    trimmer = Trimmer()
    for service in (services.PREDICTION, services.MODEL):
        answers = {
            api: partial(_answer, methods[api], request_class, api, metrics, calls, trimmer)
            for api, request_class in services.request_classes(service).items()
            if api in methods
        }
        services.add_servicer(service, SimpleNamespace(**answers), server, parse=False)
    health_pb2_grpc.add_HealthServicer_to_server(health_state.servicer, server)
    names = (services.PREDICTION, services.MODEL, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, _ReflectedPool())
    return server


def to_response(spec: ModelSpec, outputs: Outputs, as_content: bool) -> bytes:
    """Returns the bytes of a PredictResponse, see `serving.wire.tensors.serialize`."""
    entries = [
        delimited(1, delimited(1, name.encode()), delimited(2, serialize(array, as_content)))
        for name, array in outputs.items()
    ]
    return b"".join((PredictResponse(model_spec=spec).SerializeToString(), *entries))


def listen(server: grpc.aio.Server, address: str, ssl: Message | None) -> int:
    """Binds a server to "host:port" or "unix:path", over TLS with an SSLConfig; returns the port.

    Raises:
        ConfigurationError: if the certificate is not valid, or the address cannot be bound.
    """
    try:
        if ssl is None:
            return int(server.add_insecure_port(address))
        pair = (ssl.server_key.encode(), ssl.server_cert.encode())
        authority = ssl.custom_ca.encode() or None
        credentials = grpc.ssl_server_credentials([pair], authority, ssl.client_verify)
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        reason = str(error)
        if ssl is not None:
            reason = "the key or a certificate of --ssl_config_file is not valid PEM"
        raise ConfigurationError(f"cannot listen on {address}: {reason}") from error


def socket_address(path: str) -> str:
    """Returns the address of a Unix socket; removes the socket file of an earlier server."""
    socket = Path(path.removeprefix("unix:")).absolute()
    if socket.is_socket():
        socket.unlink()
    return f"unix:{socket}"
