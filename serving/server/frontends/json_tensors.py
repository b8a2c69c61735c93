"""Conversion of the bodies of TensorFlow Serving's REST requests to TensorProtos."""

import base64
import binascii
import contextlib
import gc
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

import grpc
import numpy as np
import orjson

from serving.server.core import RequestError, invalid
from serving.wire.protos import DataType, TensorInfo, TensorProto
from serving.wire.tensors import STRING, dtype_name, to_proto

ROW: Final = "instances"
COLUMNAR: Final = "inputs"
MAX_VALUES: Final = 16_000_000
"""Limit of the values in a body, including arrays and objects.

A body is parsed while holding the GIL, so a larger one would stop all other requests.
"""

_DTYPES: dict[int, type] = {
    DataType.DT_FLOAT: np.float32,
    DataType.DT_DOUBLE: np.float64,
    DataType.DT_INT32: np.int32,
    DataType.DT_INT16: np.int16,
    DataType.DT_INT8: np.int8,
    DataType.DT_UINT8: np.uint8,
    DataType.DT_INT64: np.int64,
    DataType.DT_UINT32: np.uint32,
    DataType.DT_UINT64: np.uint64,
    DataType.DT_BOOL: np.bool_,
}
_MAX_RANK = 32
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
_NON_FINITE = re.compile(rb"NaN|Infinity")


def _refuse(message: str) -> NoReturn:
    raise invalid(message)


def _describe(value: Any) -> str:
    """Returns a short description of a JSON value for a message."""
    if value is None or isinstance(value, dict | list):
        return _TYPE_NAMES[type(value)]
    return f"the {_TYPE_NAMES[type(value)]} {_shorten(json.dumps(value))}"


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."


def parse(body: bytes) -> dict[str, Any]:
    """Parses the body of a request.

    NaN, Infinity and -Infinity are numbers, as in TensorFlow Serving.

    Raises:
        RequestError: INVALID_ARGUMENT, if the body is not a JSON object or has too many values.
    """
    if not body:
        _refuse("JSON parse error: the body is empty; expected an object with 'instances'")
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        _refuse(
            f"the body has more than {MAX_VALUES:,} values; send images as PNG in b64, tensors "
            "over gRPC, or fewer images per request"
        )
    try:
        with _without_garbage_collection():
            document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _parse_non_finite(body, error)
    if not isinstance(document, dict):
        _refuse(f"JSON value: expected an object, got {_describe(document)}")
    return document


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disables the garbage collector, which took 2/3 of the time of large bodies."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _parse_non_finite(body: bytes, error: ValueError) -> Any:
    """Parses a body that orjson refused because of NaN or Infinity."""
    if _NON_FINITE.search(body):
        try:
            document = json.loads(body)
            # Unlike orjson, json accepts strings that are not Unicode: half a surrogate pair.
            json.dumps(document, ensure_ascii=False).encode()
            return document
        except (ValueError, RecursionError) as json_error:
            error = ValueError(json_error)
    _refuse(f"JSON parse error: {error}")


def to_tensors(
    document: Mapping[str, Any], inputs: Mapping[str, TensorInfo]
) -> dict[str, TensorProto]:
    """Converts the values of a request to tensors, by the name of the input.

    Args:
        document: the result of `parse`.
        inputs: name -> TensorInfo of each input of the signature.

    Raises:
        RequestError: INVALID_ARGUMENT, if the values do not match the inputs; UNIMPLEMENTED, if an
            input's dtype has no JSON representation.
    """
    columns = _columns(document, inputs)
    return {name: _to_proto(name, value, inputs[name].dtype) for name, value in columns.items()}


def format_of(document: Mapping[str, Any]) -> str:
    """Returns the format of a request, ROW or COLUMNAR.

    Raises:
        RequestError: INVALID_ARGUMENT, if the request has both keys or neither.
    """
    keys = [key for key in (ROW, COLUMNAR) if key in document]
    if len(keys) != 1:
        _refuse(
            f"expected one of the keys '{ROW}' and '{COLUMNAR}', got "
            f"{'both' if keys else 'neither'}; send one of them"
        )
    return keys[0]


def _columns(document: Mapping[str, Any], inputs: Mapping[str, TensorInfo]) -> dict[str, Any]:
    """Returns input name -> value; for ROW the list of that input's values in all rows."""
    key = format_of(document)
    value = document[key]
    if key == ROW:
        return _join_rows(value, inputs)
    if isinstance(value, dict) and not _is_base64(value):
        missing = [name for name in inputs if name not in value]
        if missing:
            _refuse(f"'{COLUMNAR}' misses {', '.join(missing)}; got {_shorten(', '.join(value))}")
        return {name: value[name] for name in inputs}
    return {_single_name(inputs, COLUMNAR): value}


def _join_rows(rows: Any, inputs: Mapping[str, TensorInfo]) -> dict[str, Any]:
    if not isinstance(rows, list):
        _refuse(f"'{ROW}': expected an array, got {_describe(rows)}")
    if not rows:
        _refuse(f"'{ROW}': expected at least one value, got an empty array")
    are_named = _is_named(rows[0])
    for index, row in enumerate(rows):
        if _is_named(row) != are_named:
            _refuse(f"'{ROW}': objects and plain values are mixed at item {index}; send one kind")
        if are_named and row.keys() != inputs.keys():
            _refuse(
                f"'{ROW}': item {index} has the keys {_shorten(', '.join(row))}; "
                f"expected {', '.join(inputs)}"
            )
    if are_named:
        return {name: [row[name] for row in rows] for name in inputs}
    return {_single_name(inputs, ROW): rows}


def _single_name(inputs: Mapping[str, TensorInfo], key: str) -> str:
    if len(inputs) != 1:
        _refuse(f"'{key}' has plain values; name the {len(inputs)} inputs: {', '.join(inputs)}")
    return next(iter(inputs))


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _to_proto(name: str, value: Any, dtype: int) -> TensorProto:
    shape, values = _flatten(name, value)
    if dtype == STRING:
        array = np.empty(len(values), object)
        array[:] = [_to_bytes(name, item) for item in values]
    elif dtype in _DTYPES:
        array = _to_numbers(name, values, dtype)
    else:
        raise RequestError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"{name}: JSON cannot represent {dtype_name(dtype)}; use gRPC",
        )
    return to_proto(array.reshape(shape))


def _flatten(name: str, value: Any) -> tuple[list[int], list[Any]]:
    """Returns the shape of nested arrays, and their values in one list."""
    shape: list[int] = []
    values = [value]
    while values and isinstance(values[0], list):
        if set(map(type, values)) != {list}:
            _refuse(f"{name}: arrays and values are mixed at level {len(shape)}")
        if len(shape) == _MAX_RANK:
            _refuse(f"{name}: arrays are nested more than {_MAX_RANK} deep")
        lengths = set(map(len, values))
        if len(lengths) != 1:
            _refuse(
                f"{name}: arrays at level {len(shape)} have different sizes, "
                f"{min(lengths)} to {max(lengths)}; expected one"
            )
        shape.append(lengths.pop())
        values = list(itertools.chain.from_iterable(values))
    return shape, values


def _to_numbers(name: str, values: list[Any], dtype: int) -> np.ndarray:
    numpy_dtype = np.dtype(_DTYPES[dtype])
    allowed = _ALLOWED_TYPES.get(numpy_dtype.kind, {int})
    if not set(map(type, values)) <= allowed:
        value = next(item for item in values if type(item) not in allowed)
        _refuse(f"{name}: expected {dtype_name(dtype)}, got {_describe(value)}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, numpy_dtype)
    except OverflowError as error:
        _refuse(f"{name}: expected {dtype_name(dtype)}: {error}")
    if numpy_dtype.kind == "f" and not np.isfinite(array).all():
        _check_overflow(name, values, array, dtype)
    return array


def _check_overflow(name: str, values: list[Any], array: np.ndarray, dtype: int) -> None:
    for value in itertools.compress(values, np.isinf(array)):
        if math.isfinite(value):
            _refuse(f"{name}: {value} is out of bounds for {dtype_name(dtype)}")


def _to_bytes(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not _is_base64(value):
        _refuse(f'{name}: expected a string or {{"b64": ".."}}, got {_describe(value)}')
    try:
        text = b"".join(value["b64"].encode("ascii").split())
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        _refuse(f"{name}: {_shorten(value['b64'])} is not base64: {error}")
