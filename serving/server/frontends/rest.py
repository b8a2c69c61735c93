"""TensorFlow Serving's REST interface, the metrics and the playground's page: an ASGI app."""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import unquote_to_bytes

import orjson
from google.protobuf import json_format
from google.protobuf.message import Message
from grpc import StatusCode
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.server.errors import RequestError, invalid
from serving.server.flags import Flags
from serving.server.frontends import http_limits, inference, json_tensors, playground
from serving.server.frontends.json_outputs import to_json
from serving.server.frontends.json_values import HOW_TO_SEND
from serving.server.frontends.metrics import CONTENT_TYPE, Metrics
from serving.server.memory import Trimmer
from serving.server.models.manager import SIGNATURE_DEF, Manager
from serving.server.models.servable import signature_name
from serving.wire import protos

P = ParamSpec("P")
T = TypeVar("T")

_NAME = "(?P<model>[^/:]+)"
_VERSION = "(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_CALL = re.compile(rf"(?i)/v1/models/{_NAME}{_VERSION}:(?P<method>classify|regress|predict)")
_STATUS_OR_METADATA = re.compile(rf"(?i)/v1/models(?:/{_NAME})?{_VERSION}(?P<metadata>/metadata)?")
_HTTP: Final = {
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ABORTED: 409,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.CANCELLED: 499,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DEADLINE_EXCEEDED: 504,
}
_THREAD_BYTES = 32_768
"""JSON of more bytes is read and written in a thread, so that it does not block the event loop."""
_LARGE_BYTES = 1_000_000
"""Bodies of more bytes, decompressed, are large, and one of them is parsed at a time."""


def create_app(manager: Manager, metrics: Metrics, flags: Flags) -> ASGIApp:
    """Returns the ASGI app of the REST port, whose requests are counted in the metrics."""
    return ServerErrorMiddleware(_RestApp(manager, metrics, flags), _internal_error)


def _json(status: int, body: Any) -> Response:
    return Response(
        body if isinstance(body, bytes) else orjson.dumps(body, option=orjson.OPT_INDENT_2),
        status,
        {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"},
        "application/json",
    )


async def _internal_error(request: Request, error: Exception) -> Response:
    return _json(500, {"error": f"the server failed: {type(error).__name__}; see its log"})


class _RestApp:
    def __init__(self, manager: Manager, metrics: Metrics, flags: Flags):
        self._manager, self._metrics, self._flags = manager, metrics, flags
        self._page = playground.read_page()
        self._large_parse, self._trimmer = asyncio.Lock(), Trimmer()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except RequestError as error:
            # Its frames hold the body until the garbage collector runs, see rpc.py.
            error.__traceback__ = None
            text = error.message.encode(errors="replace").decode()
            response = _json(_HTTP.get(error.code, 500), {"error": text})
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        http_limits.refuse_foreign_pages(request)
        # Not the decoded path: the name of a model may have an encoded slash.
        path = request.scope["raw_path"].decode("latin-1")
        if request.method in ("GET", "HEAD"):
            if path == self._flags.metrics_path:
                return Response(self._metrics.exposition(), media_type=CONTENT_TYPE)
            if path == "/":
                return self._page
            if path == playground.MODELS_PATH:
                return _json(200, {"models": self._manager.models()})
        if not path.lower().startswith("/v1/"):
            raise RequestError(StatusCode.NOT_FOUND, "Not Found")
        if query := request.scope["query_string"].decode("latin-1"):
            path += f"?{query}"
        if request.method in ("GET", "HEAD") and (match := _STATUS_OR_METADATA.fullmatch(path)):
            return _json(200, self._status_or_metadata(match))
        if request.method == "POST" and (match := _CALL.fullmatch(path)):
            return _json(200, await self._call(match, request))
        short_path = path if len(path) <= 200 else path[:200] + "..."
        raise invalid(f"Malformed request: {request.method} {short_path}")

    def _status_or_metadata(self, match: re.Match[str]) -> dict[str, Any]:
        if match["model"] is None:
            raise invalid("Missing model name in request.")
        spec = _to_spec(match)
        if match["metadata"] is None:
            status = self._manager.status(protos.GetModelStatusRequest(model_spec=spec))
            for version in status.model_version_status:
                # Includes the status in the JSON even if it is OK.
                version.status.SetInParent()
            return _to_dict(status)
        response = self._manager.metadata(
            protos.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])
        )
        signatures = protos.SignatureDefMap()
        response.metadata[SIGNATURE_DEF].Unpack(signatures)
        return {
            "model_spec": _to_dict(response.model_spec),
            "metadata": {SIGNATURE_DEF: _to_dict(signatures)},
        }

    async def _call(self, match: re.Match[str], request: Request) -> bytes:
        spec = _to_spec(match)
        # The status of a bug, which is answered with 500.
        started, status = time.perf_counter(), "INTERNAL"
        try:
            body = await self._predict(spec, match["method"].lower(), request)
            status = "OK"
            return body
        except RequestError as error:
            status = error.code.name
            raise
        except (ClientDisconnect, asyncio.CancelledError):
            status = "CANCELLED"
            raise
        finally:
            seconds = time.perf_counter() - started
            self._metrics.observe(spec.name, status, "predict", "REST", seconds)
            self._trimmer.answered()

    async def _predict(self, spec: protos.ModelSpec, method: str, request: Request) -> bytes:
        timeout, max_bytes = self._flags.rest_timeout, self._flags.max_message_bytes
        try:
            async with asyncio.timeout(timeout or None):
                body = await http_limits.read(request, max_bytes)
                _refuse_upload(request.headers.get("content-type", ""))
                encoding = request.headers.get("content-encoding", "")
                work = self._predict_body(spec, method, body, encoding)
                return await _until_disconnect(request, work)
        except TimeoutError:
            raise RequestError(
                StatusCode.DEADLINE_EXCEEDED,
                f"no response within {timeout:g} s; send fewer or smaller images, or raise "
                "--rest_api_timeout_in_ms",
            ) from None

    async def _predict_body(
        self, spec: protos.ModelSpec, method: str, body: bytes, encoding: str
    ) -> bytes:
        size, max_bytes = http_limits.size_of(body, encoding), self._flags.max_message_bytes
        async with self._large_parse if size > _LARGE_BYTES else contextlib.nullcontext():
            body = await _compute(size, http_limits.decode, body, encoding, max_bytes)
            document = await _compute(size, json_tensors.parse, body)
            spec.signature_name = json_tensors.signature_name_of(document)
            if method != "predict":
                json_tensors.check_examples(document)
                inference.refuse(self._manager, method, spec)
            request, format = await self._to_request(spec, document, size)
        return await self._manager.predict(
            request, size, lambda _, outputs: to_json(outputs, format)
        )

    async def _to_request(
        self, spec: protos.ModelSpec, document: dict[str, Any], size: int
    ) -> tuple[protos.PredictRequest, str]:
        """Returns the request in a document of so many bytes, and the format of its response."""
        signatures, name = self._manager.signatures(spec), signature_name(spec)
        if name not in signatures:
            raise invalid(f'Serving signature name: "{name[:200]}" not found in signature def')
        inputs = signatures[name].inputs
        format = json_tensors.format_of(document)
        tensors = await _compute(size, json_tensors.to_tensors, document, inputs)
        return protos.PredictRequest(model_spec=spec, inputs=tensors), format


async def _until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine; cancels it and raises ClientDisconnect if the client closes the connection.

    An ASGI server does not cancel an app for that: the app would compute for nobody.
    """
    # After the body there is no message but that of the end.
    disconnected = asyncio.ensure_future(request.receive())
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task, disconnected), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        disconnected.cancel()


def _refuse_upload(content_type: str) -> None:
    """Raises RequestError for a body that is a form with files, or an image itself."""
    if content_type.lower().startswith(("multipart/", "image/")):
        raise invalid(
            f"expected a body of JSON, got {content_type.partition(';')[0][:60]}; {HOW_TO_SEND}"
        )


async def _compute(size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function, in a thread if its data has so many bytes that it would block the loop."""
    if size > _THREAD_BYTES:
        return await asyncio.to_thread(function, *args, **kwargs)
    return function(*args, **kwargs)


def _to_spec(match: re.Match[str]) -> protos.ModelSpec:
    spec = protos.ModelSpec(name=_unquote(match["model"]))
    if match["version"] is not None:
        if len(match["version"]) > 19 or int(match["version"]) >= 2**63:
            raise invalid(f"Failed to convert version: {match['version'][:40]} to numeric")
        spec.version.value = int(match["version"])
    elif match["label"] is not None:
        spec.version_label = _unquote(match["label"])
    return spec


def _unquote(part: str) -> str:
    try:
        return unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise invalid("the percent-decoded path is not UTF-8") from None


def _to_dict(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return fields
