"""Bodies of TensorFlow Serving's REST requests to TensorProtos."""

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

from serving.server.core import RequestError
from serving.wire.protos import DataType
from serving.wire.tensors import STRING, dtype_name, to_proto

ROW: Final = "instances"
COLUMNAR: Final = "inputs"
MAX_VALUES: Final = 16_000_000
"""Values of a body, arrays and objects among them: no other thread runs while they are read."""

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
_ALLOWED: dict[str, set[type]] = {"b": {bool}, "f": {int, float}}
_KINDS: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number with a fraction",
    type(None): "null",
}
_TOKENS = re.compile(rb"NaN|Infinity")


def _refuse(message: str) -> NoReturn:
    raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _shown(value: Any) -> str:
    """A value, or what kind of value it is, for a message; short whatever came."""
    if value is None or isinstance(value, dict | list):
        return _KINDS[type(value)]
    return f"the {_KINDS[type(value)]} {_cut(json.dumps(value))}"


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."


def parse(body: bytes) -> dict[str, Any]:
    """The object that a request's body holds.

    NaN, Infinity and -Infinity are numbers, as for the real server.

    Raises:
        RequestError: INVALID_ARGUMENT, if it is no JSON object, or one of too many values.
    """
    if not body:
        _refuse("JSON parse error: the body is empty; expected an object with 'instances'")
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        _refuse(
            f"the body has more than {MAX_VALUES:,} values; send images as PNG in b64, tensors by "
            "gRPC, or less at a time"
        )
    try:
        with _no_collection():
            document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _with_tokens(body, error)
    if not isinstance(document, dict):
        _refuse(f"JSON value: expected an object, got {_shown(document)}")
    return document


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Two thirds of the time of a large body went into the search for cycles; JSON has none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _with_tokens(body: bytes, error: ValueError) -> Any:
    if _TOKENS.search(body):
        try:
            document = json.loads(body)
            # Unlike orjson, it lets through what is no Unicode: half a surrogate pair.
            json.dumps(document, ensure_ascii=False).encode()
            return document
        except (ValueError, RecursionError) as second:
            error = ValueError(second)
    _refuse(f"JSON parse error: {error}")


def to_tensors(document: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The TensorProtos of a request.

    Args:
        document: what `parse` gave.
        inputs: the TensorInfo of each input of the signature.

    Raises:
        RequestError: INVALID_ARGUMENT, if the values do not fit the inputs; UNIMPLEMENTED, if JSON
            has nothing for an input's dtype.
    """
    columns = _columns(document, inputs)
    return {name: _to_proto(name, value, inputs[name].dtype) for name, value in columns.items()}


def format_of(document: Mapping[str, Any]) -> str:
    """ROW or COLUMNAR.

    Raises:
        RequestError: INVALID_ARGUMENT, if the request has both keys or neither.
    """
    found = [key for key in (ROW, COLUMNAR) if key in document]
    if len(found) != 1:
        _refuse(
            f"expected one of the keys '{ROW}' and '{COLUMNAR}', got "
            f"{'both' if found else 'neither'}; send one of them"
        )
    return found[0]


def _columns(document: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    key = format_of(document)
    value = document[key]
    if key == ROW:
        return _of_rows(value, inputs)
    if isinstance(value, dict) and not _is_base64(value):
        missing = [name for name in inputs if name not in value]
        if missing:
            _refuse(f"'{COLUMNAR}' misses {', '.join(missing)}; got {_cut(', '.join(value))}")
        return {name: value[name] for name in inputs}
    return {_only(inputs, COLUMNAR): value}


def _of_rows(rows: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(rows, list):
        _refuse(f"'{ROW}': expected an array, got {_shown(rows)}")
    if not rows:
        _refuse(f"'{ROW}': expected at least one value, got an empty array")
    named = _is_named(rows[0])
    for index, row in enumerate(rows):
        if _is_named(row) != named:
            _refuse(f"'{ROW}': objects and plain values are mixed at item {index}; send one kind")
        if named and row.keys() != inputs.keys():
            _refuse(
                f"'{ROW}': item {index} has the keys {_cut(', '.join(row))}; "
                f"expected {', '.join(inputs)}"
            )
    if named:
        return {name: [row[name] for row in rows] for name in inputs}
    return {_only(inputs, ROW): rows}


def _only(inputs: Mapping[str, Any], key: str) -> str:
    if len(inputs) != 1:
        _refuse(f"'{key}' has plain values; name the {len(inputs)} inputs: {', '.join(inputs)}")
    return next(iter(inputs))


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _to_proto(name: str, value: Any, dtype: int) -> Any:
    sizes, flat = _flatten(name, value)
    if dtype == STRING:
        array = np.empty(len(flat), object)
        array[:] = [_to_bytes(name, item) for item in flat]
    elif dtype in _DTYPES:
        array = _to_numbers(name, flat, dtype)
    else:
        raise RequestError(
            grpc.StatusCode.UNIMPLEMENTED, f"{name}: no JSON for {dtype_name(dtype)}; use gRPC"
        )
    return to_proto(array.reshape(sizes))


def _flatten(name: str, value: Any) -> tuple[list[int], list[Any]]:
    """The sizes of nested arrays, and their values one after the other."""
    sizes: list[int] = []
    flat = [value]
    while flat and isinstance(flat[0], list):
        if set(map(type, flat)) != {list}:
            _refuse(f"{name}: arrays and values are mixed at level {len(sizes)}")
        if len(sizes) == _MAX_RANK:
            _refuse(f"{name}: arrays are nested more than {_MAX_RANK} deep")
        lengths = set(map(len, flat))
        if len(lengths) != 1:
            _refuse(
                f"{name}: arrays at level {len(sizes)} have different sizes, "
                f"{min(lengths)} to {max(lengths)}; expected one"
            )
        sizes.append(lengths.pop())
        flat = list(itertools.chain.from_iterable(flat))
    return sizes, flat


def _to_numbers(name: str, flat: list[Any], dtype: int) -> np.ndarray:
    target = np.dtype(_DTYPES[dtype])
    allowed = _ALLOWED.get(target.kind, {int})
    kinds = set(map(type, flat))
    if not kinds <= allowed:
        value = next(item for item in flat if type(item) not in allowed)
        _refuse(f"{name}: expected {dtype_name(dtype)}, got {_shown(value)}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, target)
    except OverflowError as error:
        _refuse(f"{name}: expected {dtype_name(dtype)}: {error}")
    if target.kind == "f" and not np.isfinite(array).all():
        _refuse_overflow(name, flat, array, dtype)
    return array


def _refuse_overflow(name: str, flat: list[Any], array: np.ndarray, dtype: int) -> None:
    for value in itertools.compress(flat, np.isinf(array)):
        if math.isfinite(value):
            _refuse(f"{name}: {value} is out of bounds for {dtype_name(dtype)}")


def _to_bytes(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not _is_base64(value):
        _refuse(f'{name}: expected a string or {{"b64": ".."}}, got {_shown(value)}')
    try:
        text = b"".join(value["b64"].encode("ascii").split())
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        _refuse(f"{name}: {_cut(value['b64'])} is not base64: {error}")
