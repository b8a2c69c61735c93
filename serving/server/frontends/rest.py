"""TensorFlow Serving's REST interface, the metrics and the playground's page: an ASGI app."""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import grpc
import orjson
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.server.core import Core, RequestError
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

_MODEL = r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_CALL = re.compile(rf"(?i){_MODEL}:(?P<method>classify|regress|predict)")
_ABOUT = re.compile(rf"(?i){_MODEL}(?P<metadata>/metadata)?")
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
_LARGE = 32_768
"""Bytes from which on JSON is read and written in a thread."""
_HUGE, _HUGE_AT_ONCE = 1_000_000, 2
"""Bytes above which JSON waits for its turn to be read, and how many are read at a time."""


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
        metrics: what counts the requests, and is shown at `metrics_path`.
        metrics_path: path of the page for Prometheus; None for no such page.
        timeout_seconds: from the request to the answer; 504 after that. 0 for any time.
        max_body_bytes: of a request, also once decompressed; 400 above that.
    """
    app = Starlette(exception_handlers={Exception: _internal})
    # Starlette's routes decode paths, and a model's name may hold an encoded slash.
    app.router.default = _Rest(core, metrics, metrics_path, timeout_seconds, max_body_bytes)
    return app


def _json(status: int, body: Any) -> Response:
    return Response(
        body if isinstance(body, bytes) else orjson.dumps(body, option=orjson.OPT_INDENT_2),
        status,
        {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"},
        "application/json",
    )


def _failure(error: RequestError) -> Response:
    text = error.message.encode(errors="replace").decode()
    return _json(_HTTP.get(error.code, 500), {"error": text})


async def _internal(request: Request, error: Exception) -> Response:
    return _json(500, {"error": f"the server failed: {type(error).__name__}; its log says more"})


class _Rest:
    def __init__(
        self,
        core: Core,
        metrics: Metrics,
        metrics_path: str | None,
        timeout_seconds: float,
        max_body_bytes: int,
    ):
        self._core, self._metrics, self._metrics_path = core, metrics, metrics_path
        self._timeout, self._limit = timeout_seconds, max_body_bytes
        self._playground = Playground()
        self._turns = asyncio.Semaphore(_HUGE_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except RequestError as error:
            response = _failure(error)
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
            if match := _ABOUT.fullmatch(path):
                return _json(200, self._about(match))
            if _NO_MODEL.fullmatch(path):
                raise _invalid("Missing model name in request; expected /v1/models/NAME")
        elif request.method == "POST" and (match := _CALL.fullmatch(path)):
            return _json(200, await self._call(match, request))
        shown = path if len(path) <= 200 else path[:200] + "..."
        raise _invalid(f"Malformed request: {request.method} {shown}")

    def _about(self, match: re.Match[str]) -> dict[str, Any]:
        if match["metadata"] is None:
            status = GetModelStatusRequest(model_spec=_spec(match))
            found = self._core.status(status)
            for version in found.model_version_status:
                # An OK is written out.
                version.status.SetInParent()
            return _fields(found)
        answer = self._core.metadata(
            GetModelMetadataRequest(model_spec=_spec(match), metadata_field=["signature_def"])
        )
        signatures = SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        return {
            "model_spec": _fields(answer.model_spec),
            "metadata": {"signature_def": _fields(signatures)},
        }

    async def _call(self, match: re.Match[str], request: Request) -> bytes:
        spec = _spec(match)
        started, status = time.perf_counter(), "UNKNOWN"
        try:
            answer = await self._predict(spec, match["method"].lower(), request)
            status = "OK"
            return answer
        except RequestError as error:
            status = error.code.name
            raise
        finally:
            seconds = time.perf_counter() - started
            self._metrics.observe(spec.name, status, "predict", "REST", seconds)

    async def _predict(self, spec: Any, method: str, request: Request) -> bytes:
        try:
            async with asyncio.timeout(self._timeout or None):
                body = await http_limits.read(request, self._limit)
                if method != "predict":
                    raise RequestError(
                        grpc.StatusCode.UNIMPLEMENTED, f"{method} is not supported; use predict"
                    )
                return await self._answer(spec, body, request.headers.get("content-encoding", ""))
        except TimeoutError:
            raise RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"no answer within {self._timeout:g} s; send less at a time or raise the timeout",
            ) from None

    async def _answer(self, spec: Any, body: bytes, encoding: str) -> bytes:
        plain = await _work(len(body), http_limits.decoded, body, encoding, self._limit)
        async with self._turns if len(plain) > _HUGE else contextlib.nullcontext():
            call, format = await self._read(spec, plain)
        answer = await self._core.predict(call)
        return await _work(answer.ByteSize(), json_answers.to_json, answer.outputs, format)

    async def _read(self, spec: Any, plain: bytes) -> tuple[Any, str]:
        """The request in a body, and the format of its answer."""
        document = await _work(len(plain), json_tensors.parse, plain)
        format = json_tensors.format_of(document)
        name = document.get("signature_name", "")
        if not isinstance(name, str):
            raise _invalid("'signature_name': expected a string")
        inputs = self._core.signature(spec, name).inputs
        tensors = await _work(len(plain), json_tensors.to_tensors, document, inputs)
        call = PredictRequest(model_spec=spec, inputs=tensors)
        call.model_spec.signature_name = name
        return call, format


async def _work(size: int, function: Callable[..., Any], *args: Any) -> Any:
    """Calls the function, in a thread if its data is large, so that the loop goes on."""
    return await asyncio.to_thread(function, *args) if size > _LARGE else function(*args)


def _invalid(message: str) -> RequestError:
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _spec(match: re.Match[str]) -> Any:
    spec = ModelSpec(name=_unquoted(match["model"]))
    if match["version"] is not None:
        if len(match["version"]) > 19 or int(match["version"]) >= 2**63:
            raise _invalid(f"Failed to convert version: {match['version'][:40]} to numeric")
        spec.version.value = int(match["version"])
    elif match["label"] is not None:
        spec.version_label = _unquoted(match["label"])
    return spec


def _unquoted(part: str) -> str:
    try:
        return unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise _invalid("the path is not UTF-8 once its percent signs are decoded") from None


def _fields(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
