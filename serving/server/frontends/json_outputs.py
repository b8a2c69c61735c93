"""The body of TensorFlow Serving's REST responses."""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from serving.server.errors import invalid
from serving.server.frontends.json_tensors import ROW
from serving.server.frontends.json_values import NUMBERS
from serving.wire.tensors import STRING, data_type_of, dtype_name


def to_json(outputs: Mapping[str, np.ndarray], format: str) -> bytes:
    """Returns the body of the response to a request of a format; strings are arrays of bytes.

    ROW gives {"predictions": [...]}, with an object for each row if there are several outputs; they
    need a common number of rows. COLUMNAR gives {"outputs": ...}, an object if there are several.
    """
    arrays = dict(sorted(outputs.items()))
    for array in arrays.values():
        if (dtype := data_type_of(array)) not in (*NUMBERS, STRING):
            raise invalid(f"Failed to write JSON value for tensor type: {dtype_name(dtype)}")
    if format != ROW:
        texts = {name: orjson.Fragment(_encode(name, array)) for name, array in arrays.items()}
        return orjson.dumps({"outputs": texts if len(texts) > 1 else next(iter(texts.values()))})
    _check_rows(arrays)
    columns = {
        name: [orjson.Fragment(_encode(name, np.asarray(row, array.dtype))) for row in array]
        for name, array in arrays.items()
    }
    if len(columns) == 1:
        return orjson.dumps({"predictions": next(iter(columns.values()))})
    rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
    return orjson.dumps({"predictions": rows})


def _check_rows(arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if not array.ndim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        rows = next(iter(arrays.values())).shape[0]
        if array.shape[0] != rows:
            sizes = f"{array.shape[0]} expecting: {rows}"
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {sizes}")


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
