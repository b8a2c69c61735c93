"""The blocking and asyncio transports over TensorFlow Serving's REST interface."""

import asyncio
import base64
import json
import time
from collections.abc import Iterator, Sequence
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
from ..results import Metadata, VersionStatus
from .base import (
    METADATA,
    PREDICT,
    STATUS,
    Call,
    Model,
    read_signatures,
    read_versions,
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
"""The gRPC status of an HTTP status; UNKNOWN if it is not listed."""

_SINGLE_OUTPUTS: Final = {c.ENCODE: c.LATENTS, c.DECODE: c.IMAGES}
_DTYPES: Final = {c.IMAGES: np.uint8, c.RECONSTRUCTIONS: np.uint8, c.STEPS: np.int32}
_STRING_OUTPUTS: Final = (c.RECONSTRUCTION_PNG_BYTES, c.STATUS, c.MODEL_ID)


def to_http(call: Call, model: Model) -> tuple[str, str, bytes | None]:
    """Returns the HTTP method, the path and the body of a call."""
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
    """Reads the result of a call from its HTTP response.

    Raises:
        TransportError: if the status is not 200, or the body cannot be read.
    """
    if status != 200:
        code = CODES.get(status, StatusCode.UNKNOWN)
        raise TransportError(code, f"HTTP {status}, {_read_error(body)}")
    try:
        document = json.loads(body)
        if call.kind == PREDICT:
            return _read_outputs(call.signature, document["outputs"])
        return _read_metadata(document) if call.kind == METADATA else _read_status(document)
    except (LookupError, OverflowError, TypeError, ValueError, json_format.ParseError) as error:
        raise unreadable(f"{type(error).__name__}: {error}") from error


def _to_json(value: np.ndarray | Sequence[bytes]) -> list[Any]:
    if isinstance(value, np.ndarray):
        return list(value.tolist())
    return [{"b64": base64.b64encode(item).decode()} for item in value]


def _read_outputs(signature: str, outputs: Any) -> dict[str, np.ndarray]:
    if not isinstance(outputs, dict):
        # TensorFlow Serving omits the name if a signature has a single output.
        outputs = {_SINGLE_OUTPUTS.get(signature, "outputs"): outputs}
    return {name: _to_array(name, value) for name, value in outputs.items()}


def _to_array(name: str, value: Any) -> np.ndarray:
    if name in _STRING_OUTPUTS:
        strings = np.empty(len(value), object)
        strings[:] = [_to_bytes(item) for item in value]
        return strings
    return np.asarray(value, _DTYPES.get(name, np.float32))


def _to_bytes(value: Any) -> bytes:
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else str(value).encode()


def _read_metadata(document: Any) -> Metadata:
    fields = dict(document["metadata"]["signature_def"])
    fields.pop("@type", None)
    message = json_format.ParseDict(fields, SignatureDefMap(), ignore_unknown_fields=True)
    spec = document["model_spec"]
    return Metadata(spec["name"], int(spec["version"]), read_signatures(message))


def _read_status(document: Any) -> list[VersionStatus]:
    message = GetModelStatusResponse()
    return read_versions(json_format.ParseDict(document, message, ignore_unknown_fields=True))


def _read_error(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (LookupError, TypeError, ValueError):
        return body[:200].decode(errors="replace") or "no reason given"


@contextmanager
def _map_errors() -> Iterator[None]:
    """Raises the errors of httpx as TransportError."""
    try:
        yield
    except (httpx.TimeoutException, TimeoutError) as error:
        raise TransportError(StatusCode.DEADLINE_EXCEEDED, str(error) or "timeout") from error
    except httpx.TransportError as error:
        raise TransportError(StatusCode.UNAVAILABLE, str(error) or type(error).__name__) from error
    except httpx.RequestError as error:
        raise unreadable(error) from error


class RestTransport:
    """A blocking `Transport` over REST."""

    def __init__(self, connection: Connection, model: Model):
        self._url, self._model = connection.target.rstrip("/"), model
        self._http = httpx.Client(**connection.http_options())

    def send(self, call: Call, timeout: float) -> Any:
        """See `Transport.send`."""
        deadline = time.monotonic() + timeout
        method, path, body = to_http(call, self._model)
        with (
            _map_errors(),
            self._http.stream(method, self._url + path, content=body, timeout=timeout) as response,
        ):
            parts = []
            for part in response.iter_bytes():
                # The timeout of httpx is for each read, not for the whole response.
                if time.monotonic() > deadline:
                    raise TimeoutError("the response arrived too slowly")
                parts.append(part)
        return from_http(call, response.status_code, b"".join(parts))

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()


class AsyncRestTransport:
    """An `AsyncTransport` over REST."""

    def __init__(self, connection: Connection, model: Model):
        self._url, self._model = connection.target.rstrip("/"), model
        self._http = httpx.AsyncClient(**connection.http_options())

    async def send(self, call: Call, timeout: float) -> Any:
        """See `Transport.send`."""
        method, path, body = to_http(call, self._model)
        with _map_errors():
            async with asyncio.timeout(timeout):
                response = await self._http.request(
                    method, self._url + path, content=body, timeout=None
                )
        return from_http(call, response.status_code, response.content)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()
