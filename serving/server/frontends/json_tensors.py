"""Conversion between TensorProtos and the bodies of TensorFlow Serving's REST interface.

Functions raise RequestError, INVALID_ARGUMENT unless noted, for a request that cannot be converted.
"""

import base64
import binascii
import gc
import itertools
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import orjson
from grpc import StatusCode

from serving.server.errors import RequestError, invalid
from serving.server.frontends import http_limits
from serving.server.models.inputs import MAX_STRINGS
from serving.wire.protos import TensorInfo, TensorProto
from serving.wire.tensors import DTYPES, STRING, dtype_name, to_array, to_proto

ROW: Final = "instances"
COLUMNAR: Final = "inputs"
HOW_TO_SEND: Final = 'send {"instances": [{"image_bytes": {"b64": "BASE64 OF THE FILE"}}]}'
"""The request with an image, for messages."""

_MAX_RANK = 32
_ENCODED_IMAGE = re.compile(r"data:image/|iVBORw0KGgo|/9j/|R0lGOD|UklGR|Qk[0-3][A-Za-z0-9+/]{40}")
"""How the base64 of an image begins, with which no image begins itself."""
_ALLOWED_TYPES: dict[str, set[type]] = {"b": {bool}, "f": {int, float}}
_TYPE_NAMES: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number with a fraction",
    type(None): "null",
}


def _describe(value: Any) -> str:
    """Returns a short description of a JSON value for a message."""
    if value is None or isinstance(value, dict | list):
        return _TYPE_NAMES[type(value)]
    return f"the {_TYPE_NAMES[type(value)]} {_shorten(json.dumps(value))}"


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."


def parse(body: bytes) -> dict[str, Any]:
    """Parses the body of a request: a JSON object that `http_limits.check_counts` accepts.

    NaN, Infinity and -Infinity are numbers, as in TensorFlow Serving.
    """
    if not body:
        raise invalid("JSON parse error: the body is empty; expected an object with 'instances'")
    http_limits.check_counts(body)
    gc_was_enabled = gc.isenabled()
    # Garbage collection took 2/3 of the time of large bodies.
    gc.disable()
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _parse_non_finite(body, error)
    finally:
        if gc_was_enabled:
            gc.enable()
    if not isinstance(document, dict):
        raise invalid(f"JSON value: expected an object, got {_describe(document)}")
    return document


def _parse_non_finite(body: bytes, error: Exception) -> Any:
    """Parses a body that orjson refused because of NaN or Infinity."""
    if b"NaN" in body or b"Infinity" in body:
        try:
            document = json.loads(body)
            # Unlike orjson, json accepts strings that are not Unicode: half a surrogate pair.
            json.dumps(document, ensure_ascii=False).encode()
            return document
        except (ValueError, RecursionError) as json_error:
            error = json_error
    raise invalid(f"JSON parse error: {error}")


def to_tensors(
    document: Mapping[str, Any], inputs: Mapping[str, TensorInfo]
) -> dict[str, TensorProto]:
    """Converts the values of a parsed request to tensors, by the name of the input.

    Raises UNIMPLEMENTED if the dtype of an input has no JSON representation.
    """
    key = format_of(document)
    columns = _join_rows(document[key], inputs) if key == ROW else _columns(document[key], inputs)
    return {name: _to_proto(name, value, inputs[name].dtype) for name, value in columns.items()}


def format_of(document: Mapping[str, Any]) -> str:
    """Returns the format of a parsed request, ROW or COLUMNAR."""
    keys = [key for key in (ROW, COLUMNAR) if key in document]
    if len(keys) != 1:
        raise invalid(
            f"expected one of the keys '{ROW}' and '{COLUMNAR}', got "
            f"{'both' if keys else 'neither'}; send one of them"
        )
    return keys[0]


def _columns(value: Any, inputs: Mapping[str, TensorInfo]) -> dict[str, Any]:
    if not _is_named(value):
        return {_single_name(inputs, COLUMNAR): value}
    missing = ", ".join(name for name in inputs if name not in value)
    if missing:
        raise invalid(f"'{COLUMNAR}' misses {missing}; got {_shorten(', '.join(value))}")
    return {name: value[name] for name in inputs}


def _join_rows(rows: Any, inputs: Mapping[str, TensorInfo]) -> dict[str, Any]:
    """Returns input name -> the list of its values in all rows."""
    if not isinstance(rows, list):
        raise invalid(f"'{ROW}': expected an array, got {_describe(rows)}")
    if not rows:
        raise invalid(f"'{ROW}': expected at least one value, got an empty array")
    are_named = _is_named(rows[0])
    for index, row in enumerate(rows):
        if _is_named(row) != are_named:
            raise invalid(
                f"'{ROW}': objects and plain values are mixed at item {index}; send one kind"
            )
        if are_named and row.keys() != inputs.keys():
            raise invalid(
                f"'{ROW}': item {index} has the keys {_shorten(', '.join(row))}; "
                f"expected {', '.join(inputs)}"
            )
    if are_named:
        return {name: [row[name] for row in rows] for name in inputs}
    return {_single_name(inputs, ROW): rows}


def _single_name(inputs: Mapping[str, TensorInfo], key: str) -> str:
    if len(inputs) != 1:
        raise invalid(
            f"'{key}' has plain values; name the {len(inputs)} inputs: {', '.join(inputs)}"
        )
    return next(iter(inputs))


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _to_proto(name: str, value: Any, dtype: int) -> TensorProto:
    shape, values = _flatten(name, value)
    if dtype == STRING:
        if len(values) > MAX_STRINGS:
            raise invalid(
                f"{name}: got {len(values):,} strings; at most {MAX_STRINGS:,} are allowed"
            )
        array = np.array([_to_bytes(name, item) for item in values], object)
    elif dtype in DTYPES:
        array = _to_numbers(name, values, dtype)
    else:
        message = f"{name}: JSON cannot represent {dtype_name(dtype)}; use gRPC"
        raise RequestError(StatusCode.UNIMPLEMENTED, message)
    return to_proto(array.reshape(shape))


def _flatten(name: str, value: Any) -> tuple[list[int], list[Any]]:
    """Returns the shape of nested arrays, and their values in one list."""
    shape: list[int] = []
    values = [value]
    while values and isinstance(values[0], list):
        if set(map(type, values)) != {list}:
            raise invalid(f"{name}: arrays and values are mixed at level {len(shape)}")
        if len(shape) == _MAX_RANK:
            raise invalid(f"{name}: arrays are nested more than {_MAX_RANK} deep")
        lengths = set(map(len, values))
        if len(lengths) != 1:
            raise invalid(
                f"{name}: arrays at level {len(shape)} have different sizes, "
                f"{min(lengths)} to {max(lengths)}; expected one"
            )
        shape.append(lengths.pop())
        values = list(itertools.chain.from_iterable(values))
    return shape, values


def _to_numbers(name: str, values: list[Any], dtype: int) -> np.ndarray:
    numpy_dtype = DTYPES[dtype]
    allowed = _ALLOWED_TYPES.get(numpy_dtype.kind, {int})
    if not set(map(type, values)) <= allowed:
        value = next(item for item in values if type(item) not in allowed)
        raise invalid(f"{name}: expected {dtype_name(dtype)}, got {_describe(value)}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, numpy_dtype)
    except OverflowError as error:
        raise invalid(f"{name}: expected {dtype_name(dtype)}: {error}") from error
    if numpy_dtype.kind == "f":
        for value in map(values.__getitem__, np.flatnonzero(np.isinf(array))):
            if math.isfinite(value):
                raise invalid(f"{name}: {value} is out of bounds for {dtype_name(dtype)}")
    return array


def _to_bytes(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        if name.endswith("_bytes") and _ENCODED_IMAGE.match(value):
            raise invalid(
                f"{name}: {_shorten(value)} is plain text, as which base64 is not decoded; "
                f"{HOW_TO_SEND}"
            )
        return value.encode()
    if not _is_base64(value):
        raise invalid(f'{name}: expected a string or {{"b64": ".."}}, got {_describe(value)}')
    try:
        text = b"".join(value["b64"].encode("ascii").split())
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise invalid(f"{name}: {_shorten(value['b64'])} is not base64: {error}") from error


def to_json(tensors: Mapping[str, TensorProto], format: str) -> bytes:
    """Returns the body of the response to a request of a format.

    ROW gives {"predictions": [...]}, with an object for each row if there are several outputs; they
    need a common number of rows. COLUMNAR gives {"outputs": ...}, an object if there are several.
    """
    arrays = {name: to_array(tensor) for name, tensor in sorted(tensors.items())}
    if format != ROW:
        outputs = {name: orjson.Fragment(_encode(name, array)) for name, array in arrays.items()}
        value = outputs if len(outputs) > 1 else next(iter(outputs.values()))
        return orjson.dumps({"outputs": value})
    counts = {array.shape[0] if array.ndim else None for array in arrays.values()}
    if len(counts) != 1 or None in counts:
        raise invalid(
            "the outputs have no common number of rows; send the request with 'inputs' instead of "
            "'instances'"
        )
    columns = {
        name: [orjson.Fragment(_encode(name, np.asarray(row, array.dtype))) for row in array]
        for name, array in arrays.items()
    }
    if len(columns) == 1:
        return orjson.dumps({"predictions": next(iter(columns.values()))})
    rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
    return orjson.dumps({"predictions": rows})


def _encode(name: str, array: np.ndarray) -> bytes:
    if array.dtype == object:
        return _encode_strings(array.tolist(), name.endswith("_bytes"))
    # orjson refuses arrays of rank 0; ascontiguousarray makes them rank 1.
    text = orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)
    is_finite = np.isfinite(array)
    if not is_finite.all():
        # orjson writes null for each value that is not finite, json NaN or Infinity.
        values = iter(array[~is_finite].tolist())
        text = re.sub(b"null", lambda _: json.dumps(next(values)).encode(), text)
    return text if array.ndim else text[1:-1]


def _encode_strings(values: Any, as_bytes: bool) -> bytes:
    if isinstance(values, list):
        return b"[" + b",".join(_encode_strings(value, as_bytes) for value in values) + b"]"
    if as_bytes:
        return b'{"b64":"' + base64.b64encode(values) + b'"}'
    return orjson.dumps(values.decode(errors="replace"))
