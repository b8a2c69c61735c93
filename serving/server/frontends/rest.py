"""TensorFlow Serving's REST interface, the metrics and the playground's page: an ASGI app."""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import unquote_to_bytes

import grpc
import orjson
from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.server.core import Core, RequestError, invalid
from serving.server.frontends import http_limits, json_answers, json_tensors
from serving.server.frontends.http_limits import refuse_foreign_pages
from serving.server.frontends.metrics import CONTENT_TYPE, Metrics
from serving.server.frontends.playground import MODELS_PATH, Playground
from serving.wire.protos import (
    GetModelMetadataRequest,
    GetModelStatusRequest,
    ModelSpec,
    PredictRequest,
    SignatureDefMap,
)

P = ParamSpec("P")
T = TypeVar("T")

_MODEL = r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_CALL = re.compile(rf"(?i){_MODEL}:(?P<method>classify|regress|predict)")
_STATUS_OR_METADATA = re.compile(rf"(?i){_MODEL}(?P<metadata>/metadata)?")
_NO_MODEL = re.compile(r"(?i)/v1/models/?(?:metadata)?")
_HTTP: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_THREAD_BYTES = 32_768
"""JSON of more bytes is read and written in a thread, so that it does not block the event loop."""
_LARGE_BYTES, _MAX_LARGE_PARSES = 1_000_000, 2
"""Bodies of more bytes are large, and only so many of them are parsed at a time."""


def create_app(
    core: Core,
    metrics: Metrics,
    *,
    metrics_path: str | None,
    timeout_seconds: float,
    max_body_bytes: int,
) -> Starlette:
    """The ASGI app of the REST port.

    Args:
        core: the models.
        metrics: the metrics that requests are counted in.
        metrics_path: path of the page for Prometheus; None for no such page.
        timeout_seconds: time for a response, after which the status is 504; 0 for no limit.
        max_body_bytes: size of the largest body, also once decompressed; above it the status is
            400.
    """
    app = Starlette(exception_handlers={Exception: _internal_error})
    # Starlette's routes match decoded paths, but the name of a model may have an encoded slash.
    app.router.default = _RestApp(core, metrics, metrics_path, timeout_seconds, max_body_bytes)
    return app


def _json(status: int, body: Any) -> Response:
    return Response(
        body if isinstance(body, bytes) else orjson.dumps(body, option=orjson.OPT_INDENT_2),
        status,
        {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"},
        "application/json",
    )


def _error_response(error: RequestError) -> Response:
    text = error.message.encode(errors="replace").decode()
    return _json(_HTTP.get(error.code, 500), {"error": text})


async def _internal_error(request: Request, error: Exception) -> Response:
    return _json(500, {"error": f"the server failed: {type(error).__name__}; see its log"})


class _RestApp:
    def __init__(
        self,
        core: Core,
        metrics: Metrics,
        metrics_path: str | None,
        timeout_seconds: float,
        max_body_bytes: int,
    ):
        self._core, self._metrics, self._metrics_path = core, metrics, metrics_path
        self._timeout_seconds, self._max_body_bytes = timeout_seconds, max_body_bytes
        self._playground = Playground()
        self._large_parses = asyncio.Semaphore(_MAX_LARGE_PARSES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except RequestError as error:
            response = _error_response(error)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        refuse_foreign_pages(request)
        path = request.scope["raw_path"].decode("latin-1")
        if request.method in ("GET", "HEAD"):
            if path == self._metrics_path:
                return Response(self._metrics.exposition(), media_type=CONTENT_TYPE)
            if path == "/":
                return self._playground.page()
            if path == MODELS_PATH:
                return _json(200, {"models": self._core.models()})
            if match := _STATUS_OR_METADATA.fullmatch(path):
                return _json(200, self._status_or_metadata(match))
            if _NO_MODEL.fullmatch(path):
                raise invalid("Missing model name in request; expected /v1/models/NAME")
        elif request.method == "POST" and (match := _CALL.fullmatch(path)):
            return _json(200, await self._call(match, request))
        short_path = path if len(path) <= 200 else path[:200] + "..."
        raise invalid(f"Malformed request: {request.method} {short_path}")

    def _status_or_metadata(self, match: re.Match[str]) -> dict[str, Any]:
        if match["metadata"] is None:
            status = self._core.status(GetModelStatusRequest(model_spec=_to_spec(match)))
            for version in status.model_version_status:
                # Includes the status in the JSON even if it is OK.
                version.status.SetInParent()
            return _to_dict(status)
        response = self._core.metadata(
            GetModelMetadataRequest(model_spec=_to_spec(match), metadata_field=["signature_def"])
        )
        signatures = SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return {
            "model_spec": _to_dict(response.model_spec),
            "metadata": {"signature_def": _to_dict(signatures)},
        }

    async def _call(self, match: re.Match[str], request: Request) -> bytes:
        spec = _to_spec(match)
        started, status = time.perf_counter(), "UNKNOWN"
        try:
            body = await self._predict(spec, match["method"].lower(), request)
            status = "OK"
            return body
        except RequestError as error:
            status = error.code.name
            raise
        finally:
            seconds = time.perf_counter() - started
            self._metrics.observe(spec.name, status, "predict", "REST", seconds)

    async def _predict(self, spec: ModelSpec, method: str, request: Request) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_seconds or None):
                body = await http_limits.read(request, self._max_body_bytes)
                if method != "predict":
                    raise RequestError(
                        grpc.StatusCode.UNIMPLEMENTED, f"{method} is not supported; use predict"
                    )
                encoding = request.headers.get("content-encoding", "")
                return await self._predict_body(spec, body, encoding)
        except TimeoutError:
            raise RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"no response within {self._timeout_seconds:g} s; send fewer or smaller images, or "
                "raise --rest_api_timeout_in_ms",
            ) from None

    async def _predict_body(self, spec: ModelSpec, body: bytes, encoding: str) -> bytes:
        body = await _call(len(body), http_limits.decode, body, encoding, self._max_body_bytes)
        is_large = len(body) > _LARGE_BYTES
        async with self._large_parses if is_large else contextlib.nullcontext():
            request, format = await self._parse(spec, body)
        response = await self._core.predict(request)
        return await _call(response.ByteSize(), json_answers.to_json, response.outputs, format)

    async def _parse(self, spec: ModelSpec, body: bytes) -> tuple[PredictRequest, str]:
        """Returns the request in a body, and the format of its response."""
        document = await _call(len(body), json_tensors.parse, body)
        format = json_tensors.format_of(document)
        name = document.get("signature_name", "")
        if not isinstance(name, str):
            raise invalid("'signature_name': expected a string")
        inputs = self._core.signature(spec, name).inputs
        tensors = await _call(len(body), json_tensors.to_tensors, document, inputs)
        request = PredictRequest(model_spec=spec, inputs=tensors)
        request.model_spec.signature_name = name
        return request, format


async def _call(size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function, in a thread if its data has so many bytes that it would block the loop."""
    if size > _THREAD_BYTES:
        return await asyncio.to_thread(function, *args, **kwargs)
    return function(*args, **kwargs)


def _to_spec(match: re.Match[str]) -> ModelSpec:
    spec = ModelSpec(name=_unquote(match["model"]))
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
