"""TensorProtos to the bodies of TensorFlow Serving's REST answers."""

import base64
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import numpy as np
import orjson

from serving.server.core import RequestError
from serving.server.frontends.json_tensors import ROW
from serving.wire.tensors import to_array

_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def to_json(tensors: Mapping[str, Any], format: str) -> bytes:
    """The body that answers a request of that format.

    Args:
        tensors: TensorProtos by the names of the outputs.
        format: ROW gives {"predictions": [..]}, with an object for each row if there are several
            outputs; COLUMNAR gives {"outputs": ..}, an object if there are several.

    Raises:
        RequestError: INVALID_ARGUMENT, if the outputs of a row format have no common first size.
    """
    arrays = {name: to_array(tensor) for name, tensor in sorted(tensors.items())}
    if format == ROW:
        count = _rows(arrays)
        texts = {name: list(_each(name, array)) for name, array in arrays.items()}
        answer: Any = [
            {name: orjson.Fragment(text[row]) for name, text in texts.items()}
            for row in range(count)
        ]
        if len(arrays) == 1:
            answer = [next(iter(row.values())) for row in answer]
        return orjson.dumps({"predictions": answer})
    answer = {name: orjson.Fragment(_text(name, array)) for name, array in arrays.items()}
    return orjson.dumps({"outputs": answer if len(arrays) > 1 else next(iter(answer.values()))})


def _rows(arrays: Mapping[str, np.ndarray]) -> int:
    counts = {array.shape[0] if array.ndim else None for array in arrays.values()}
    if len(counts) != 1 or None in counts:
        raise RequestError(
            grpc.StatusCode.INVALID_ARGUMENT,
            "the outputs have no common first size; ask with 'inputs' in place of 'instances'",
        )
    return int(counts.pop() or 0)


def _each(name: str, array: np.ndarray) -> Iterator[bytes]:
    for row in array:
        yield _text(name, np.asarray(row, array.dtype))


def _text(name: str, array: np.ndarray) -> bytes:
    if array.dtype == object:
        return _text_of_strings(array.tolist(), name.endswith("_bytes"))
    # orjson writes no array of rank 0.
    text = orjson.dumps(np.ascontiguousarray(array), option=_NUMPY)
    finite = np.isfinite(array)
    if not finite.all():
        # orjson writes null where JSON has no number: these, in order.
        names = iter(np.atleast_1d(array)[~np.atleast_1d(finite)])
        text = re.sub(b"null", lambda _: _token(next(names)), text)
    return text if array.ndim else text[1:-1]


def _token(value: float) -> bytes:
    if math.isnan(value):
        return b"NaN"
    return b"Infinity" if value > 0 else b"-Infinity"


def _text_of_strings(values: Any, as_bytes: bool) -> bytes:
    if isinstance(values, list):
        return b"[" + b",".join(_text_of_strings(value, as_bytes) for value in values) + b"]"
    if as_bytes:
        return b'{"b64":"' + base64.b64encode(values) + b'"}'
    return orjson.dumps(values.decode(errors="replace"))
