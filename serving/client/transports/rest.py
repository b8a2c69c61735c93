"""Calls over HTTP and JSON, as TensorFlow Serving's REST takes them, blocking and asyncio."""

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

import httpx
import numpy as np
from google.protobuf import json_format
from grpc import StatusCode

from keras_ae import contract as c

from ...wire.protos import GetModelStatusResponse, SignatureDefMap
from ..failures import TransportError, unreadable
from ..results import Metadata
from .base import (
    METADATA,
    PREDICT,
    STATUS,
    Call,
    Model,
    read_signatures,
    statuses,
)
from .connection import Connection

CODES: Final = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    408: StatusCode.DEADLINE_EXCEEDED,
    413: StatusCode.RESOURCE_EXHAUSTED,
    429: StatusCode.RESOURCE_EXHAUSTED,
    500: StatusCode.INTERNAL,
    501: StatusCode.UNIMPLEMENTED,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}
"""The gRPC status that stands for an HTTP status; of any other it is UNKNOWN."""

_ONLY_OUTPUT: Final = {c.ENCODE: c.LATENTS, c.DECODE: c.IMAGES}
_UINT8: Final = (c.IMAGES, c.RECONSTRUCTIONS)
_STRINGS: Final = (c.RECONSTRUCTION_PNG_BYTES, c.STATUS)


def to_http(call: Call, model: Model) -> tuple[str, str, bytes | None]:
    """Method, path and body of a call."""
    path = f"/v1/models/{quote(model.name, safe='')}"
    if model.version is not None:
        path += f"/versions/{model.version}"
    elif model.label is not None and call.kind != STATUS:
        path += f"/labels/{quote(model.label, safe='')}"
    if call.kind != PREDICT:
        return "GET", path + ("/metadata" if call.kind == METADATA else ""), None
    inputs = {name: _to_json(value) for name, value in call.inputs.items()}
    body = json.dumps({"signature_name": call.signature, "inputs": inputs}, separators=(",", ":"))
    return "POST", f"{path}:predict", body.encode()


def from_http(call: Call, status: int, body: bytes) -> Any:
    """The answer in a response.

    Raises:
        TransportError: of the status, or if the answer cannot be read.
    """
    if status != 200:
        code = CODES.get(status, StatusCode.UNKNOWN)
        raise TransportError(code, f"HTTP {status}, {_reason(body)}")
    try:
        answer = json.loads(body)
        if call.kind == PREDICT:
            return _outputs(call.signature, answer["outputs"])
        return _metadata(answer) if call.kind == METADATA else _status(answer)
    except (LookupError, OverflowError, TypeError, ValueError, json_format.ParseError) as error:
        raise unreadable(f"{type(error).__name__}: {error}") from error


def _to_json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [{"b64": base64.b64encode(one).decode()} for one in value]


def _outputs(signature: str, outputs: Any) -> dict[str, np.ndarray]:
    if not isinstance(outputs, dict):
        # The server leaves out the name of a lone output.
        outputs = {_ONLY_OUTPUT.get(signature, "outputs"): outputs}
    return {name: _to_array(name, value) for name, value in outputs.items()}


def _to_array(name: str, value: Any) -> np.ndarray:
    if name in _STRINGS:
        strings = np.empty(len(value), object)
        strings[:] = [_to_bytes(one) for one in value]
        return strings
    return np.asarray(value, np.uint8 if name in _UINT8 else np.float32)


def _to_bytes(value: Any) -> bytes:
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else str(value).encode()


def _metadata(answer: Any) -> Metadata:
    found = dict(answer["metadata"]["signature_def"])
    found.pop("@type", None)
    message = json_format.ParseDict(found, SignatureDefMap(), ignore_unknown_fields=True)
    spec = answer["model_spec"]
    return Metadata(spec["name"], int(spec["version"]), read_signatures(message))


def _status(answer: Any) -> Any:
    message = GetModelStatusResponse()
    return statuses(json_format.ParseDict(answer, message, ignore_unknown_fields=True))


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (LookupError, TypeError, ValueError):
        return body[:200].decode(errors="replace") or "no reason given"


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (httpx.TimeoutException, TimeoutError) as error:
        raise TransportError(StatusCode.DEADLINE_EXCEEDED, str(error) or "too slow") from error
    except httpx.TransportError as error:
        raise TransportError(StatusCode.UNAVAILABLE, str(error) or type(error).__name__) from error
    except httpx.RequestError as error:
        raise unreadable(error) from error


class RestTransport:
    """Blocking calls; may be used from several threads."""

    def __init__(self, connection: Connection, model: Model):
        self._base, self._model = connection.target.rstrip("/"), model
        self._http = httpx.Client(**connection.http_options())

    def send(self, call: Call, timeout: float) -> Any:
        """Sends one call and waits for its answer, `timeout` seconds at most.

        Raises:
            TransportError: if there is none.
        """
        end = time.monotonic() + timeout
        method, path, body = to_http(call, self._model)
        with (
            _failures(),
            self._http.stream(method, self._base + path, content=body, timeout=timeout) as response,
        ):
            parts = []
            for part in response.iter_bytes():
                # httpx counts anew with each part.
                if time.monotonic() > end:
                    raise TimeoutError("the answer came too slowly")
                parts.append(part)
        return from_http(call, response.status_code, b"".join(parts))

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()


class AsyncRestTransport:
    """The same on asyncio; made and used inside one running loop."""

    def __init__(self, connection: Connection, model: Model):
        self._base, self._model = connection.target.rstrip("/"), model
        self._http = httpx.AsyncClient(**connection.http_options())

    async def send(self, call: Call, timeout: float) -> Any:
        """As `RestTransport.send`."""
        method, path, body = to_http(call, self._model)
        with _failures():
            async with asyncio.timeout(timeout):
                response = await self._http.request(
                    method, self._base + path, content=body, timeout=None
                )
        return from_http(call, response.status_code, response.content)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()
