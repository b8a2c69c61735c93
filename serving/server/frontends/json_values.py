"""Conversion of JSON values to TensorProtos, with the errors of TensorFlow Serving.

Functions raise RequestError, INVALID_ARGUMENT unless noted, for a value that cannot be converted.
"""

import base64
import binascii
import itertools
import json
import math
import re
from typing import Any, Final

import numpy as np
from grpc import StatusCode

from serving.server.errors import RequestError, invalid
from serving.server.models.inputs import MAX_STRINGS
from serving.wire.protos import DataType, TensorProto
from serving.wire.tensors import STRING, dtype_name, dtype_of, to_proto

HOW_TO_SEND: Final = 'send {"instances": [{"image_bytes": {"b64": "BASE64 OF THE FILE"}}]}'
"""The request with an image, for messages."""

NUMBERS: Final = (
    *(DataType.DT_FLOAT, DataType.DT_DOUBLE, DataType.DT_BOOL, DataType.DT_UINT8),
    *(DataType.DT_INT8, DataType.DT_INT16, DataType.DT_INT32, DataType.DT_INT64),
    *(DataType.DT_UINT32, DataType.DT_UINT64),
)
"""The dtypes besides strings that TensorFlow Serving converts from JSON and to it."""
_MAX_RANK = 32
_ENCODED_IMAGE = re.compile(r"data:image/|iVBORw0KGgo|/9j/|R0lGOD|UklGR|Qk[0-3][A-Za-z0-9+/]{40}")
"""How the base64 of an image begins, with which no image begins itself."""
_ALLOWED_TYPES: dict[str, set[type]] = {"b": {bool}, "f": {int, float}}
_TYPE_NAMES: dict[type, str] = {
    dict: "Object",
    list: "Array",
    str: "String",
    int: "Number",
    float: "Number",
    type(None): "Null",
}
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_MAX_TEXT = 256


def text_of(value: Any) -> str:
    """Returns the beginning of a JSON value for a message; the value may be large."""
    text = "".join(itertools.islice(_ENCODER.iterencode(value), _MAX_TEXT))
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "..."


def malformed(value: Any, reason: str) -> RequestError:
    """Returns the error of a JSON value."""
    return invalid(f"JSON Value: {text_of(value)} {reason}")


def _wrong_type(value: Any, dtype: int) -> RequestError:
    kind = str(value) if isinstance(value, bool) else _TYPE_NAMES[type(value)]
    return malformed(value, f"Type: {kind} is not of expected type: {dtype_name(dtype)}")


def is_base64(value: Any) -> bool:
    """Returns whether a JSON value is an object of bytes, {"b64": "..."}."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def to_tensor(name: str, value: Any, dtype: int) -> TensorProto:
    """Converts nested arrays of values to the tensor of an input of a DataType.

    Raises UNIMPLEMENTED if JSON does not represent the dtype.
    """
    shape, values = _flatten(value)
    if dtype == STRING:
        if len(values) > MAX_STRINGS:
            raise invalid(
                f"{name}: got {len(values):,} strings; at most {MAX_STRINGS:,} are allowed"
            )
        array = np.array([_to_bytes(name, item) for item in values], object)
    elif dtype in NUMBERS:
        array = _to_numbers(values, dtype)
    else:
        text = text_of(values[0] if values else value)
        message = f"Conversion of JSON Value: {text} to type: {dtype_name(dtype)}"
        raise RequestError(StatusCode.UNIMPLEMENTED, message)
    return to_proto(array.reshape(shape))


def _flatten(value: Any) -> tuple[list[int], list[Any]]:
    """Returns the shape of nested arrays, and their values in one list."""
    shape: list[int] = []
    values = [value]
    while values and isinstance(values[0], list):
        level = len(shape)
        if level == _MAX_RANK:
            raise invalid(f"arrays are nested more than {_MAX_RANK} deep")
        for item in values if set(map(type, values)) != {list} else ():
            if not isinstance(item, list):
                place = f"found at incorrect level: {level + 1} in the JSON DOM."
                raise malformed(item, f"{place} Expected at level: {level + _depth(values[0])}")
        sizes = [*map(len, values)]
        for size in sizes if len(set(sizes)) > 1 else ():
            if size != sizes[0]:
                raise invalid(
                    f"Encountered list at unexpected size: {size} at level: {level} expected size: "
                    f"{sizes[0]}"
                )
        shape.append(sizes[0])
        values = list(itertools.chain.from_iterable(values))
    if list in set(map(type, values)):
        level = len(shape)
        raise invalid(f"Encountered list at unexpected level: {level} expected < {level}")
    return shape, values


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        depth, value = depth + 1, value[0] if value else None
    return depth


def _to_numbers(values: list[Any], dtype: int) -> np.ndarray:
    numpy_dtype = dtype_of(dtype)
    allowed = _ALLOWED_TYPES.get(numpy_dtype.kind, {int})
    if not set(map(type, values)) <= allowed:
        raise _wrong_type(next(item for item in values if type(item) not in allowed), dtype)
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, numpy_dtype)
    except OverflowError:
        limits = np.iinfo(numpy_dtype)
        value = next(item for item in values if not limits.min <= item <= limits.max)
        raise _wrong_type(value, dtype) from None
    if numpy_dtype.kind == "f":
        for value in map(values.__getitem__, np.flatnonzero(np.isinf(array))):
            if math.isfinite(value):
                raise _wrong_type(value, dtype)
    return array


def _to_bytes(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        if name.endswith("_bytes") and _ENCODED_IMAGE.match(value):
            raise invalid(
                f"{name}: {value[:60]}... is plain text, as which base64 is not decoded; "
                f"{HOW_TO_SEND}"
            )
        return value.encode()
    if not isinstance(value, dict):
        raise _wrong_type(value, STRING)
    if not is_base64(value):
        raise malformed(value, "not formatted correctly for base64 data")
    try:
        text = b"".join(value["b64"].encode("ascii").split())
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise invalid("Unable to base64 decode") from error
