"""Conversion of TensorProtos to the bodies of TensorFlow Serving's REST responses."""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from serving.server.errors import invalid
from serving.server.frontends.json_tensors import ROW
from serving.wire.protos import TensorProto
from serving.wire.tensors import to_array


def to_json(tensors: Mapping[str, TensorProto], format: str) -> bytes:
    """Returns the body of the response to a request of a format.

    Args:
        tensors: output name -> tensor.
        format: ROW gives {"predictions": [...]}, with an object for each row if there are several
            outputs; COLUMNAR gives {"outputs": ...}, an object if there are several outputs.

    Raises:
        RequestError: INVALID_ARGUMENT, if the format is ROW and the outputs have no common number
            of rows.
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
