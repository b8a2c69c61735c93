"""The bodies of TensorFlow Serving's REST requests, and their conversion to TensorProtos.

Functions raise RequestError, INVALID_ARGUMENT unless noted, for a request that cannot be converted.
"""

import gc
import json
import math
from collections.abc import Mapping
from typing import Any, Final

import orjson

from serving.server.errors import RequestError, invalid
from serving.server.frontends import http_limits
from serving.server.frontends.json_values import is_base64, malformed, text_of, to_tensor
from serving.wire.protos import TensorInfo, TensorProto
from serving.wire.tensors import shape_of

ROW: Final = "instances"
COLUMNAR: Final = "inputs"
MAX_SEARCHED_ROWS: Final = 1024
"""Rows that are searched for the one that an error names; each takes much longer than its parsing.
"""
_KEYS: Final = (b"instances", b"inputs", b"signature_name")
_DECODER = json.JSONDecoder(object_pairs_hook=lambda pairs: dict(reversed(pairs)))
"""As TensorFlow Serving's: the first of equal keys counts. Slower than orjson."""


def parse(body: bytes) -> dict[str, Any]:
    """Parses the body of a request: a JSON object that `http_limits.check_counts` accepts.

    As in TensorFlow Serving, NaN, Infinity and -Infinity are numbers, of two equal keys the first
    counts, and text after the object is ignored.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    http_limits.check_counts(body)
    gc_was_enabled = gc.isenabled()
    # Garbage collection took 2/3 of the time of large bodies.
    gc.disable()
    try:
        document = _load(body)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    finally:
        if gc_was_enabled:
            gc.enable()
    if not isinstance(document, dict):
        raise malformed(document, "Is not object")
    return document


def _load(body: bytes) -> Any:
    try:
        document = orjson.loads(body)
        if all(body.count(b'"%b"' % key) <= 1 for key in _KEYS):
            return document
    except orjson.JSONDecodeError as error:
        is_complete = error.msg.startswith("unexpected content after document")
        if not is_complete and b"NaN" not in body and b"Infinity" not in body:
            raise
    try:
        document, _ = _DECODER.raw_decode(body.decode().lstrip(" \t\r\n"))
        # Unlike orjson, json accepts strings that are not Unicode: half a surrogate pair.
        json.dumps(document, ensure_ascii=False).encode()
    except (UnicodeError, RecursionError) as error:
        raise json.JSONDecodeError(str(error), "", 0) from error
    return document


def to_tensors(
    document: Mapping[str, Any], inputs: Mapping[str, TensorInfo]
) -> dict[str, TensorProto]:
    """Converts the values of a parsed request to tensors, by the name of the input.

    Raises UNIMPLEMENTED if the dtype of an input has no JSON representation.
    """
    is_row = format_of(document) == ROW
    columns = _join_rows(document, inputs) if is_row else _columns(document[COLUMNAR], inputs)
    try:
        return {name: to_tensor(name, value, inputs[name].dtype) for name, value in columns.items()}
    except RequestError:
        if is_row:
            _check_rows(document[ROW][:MAX_SEARCHED_ROWS], inputs)
        raise


def _check_rows(rows: list[Any], inputs: Mapping[str, TensorInfo]) -> None:
    """Raises the error of the first row that cannot be converted or has another shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index, row in enumerate(rows):
        is_named = _is_named(row)
        for name, value in row.items() if is_named else [(next(iter(inputs)), row)]:
            try:
                shape = shape_of(to_tensor(name, value, inputs[name].dtype))
                _check_shape(shapes.setdefault(name, shape), shape)
            except RequestError as error:
                key = f" key: {name}" if is_named else ""
                raise _failed(f"{index}{key}", f"{error.code.name}: {error.message}") from error


def _check_shape(expected: tuple[int, ...], shape: tuple[int, ...]) -> None:
    size, expected_size = math.prod(shape), math.prod(expected)
    if size != expected_size:
        raise invalid(f"Expecting tensor size: {expected_size} but got: {size}")
    if shape != expected:
        texts = [",".join(map(str, sizes)) for sizes in (expected, shape)]
        raise invalid(f"Expecting shape [{texts[0]}] but got: [{texts[1]}]")


def _failed(element: str, error: str) -> RequestError:
    return invalid(f"Failed to process element: {element} of '{ROW}' list. Error: {error}")


def signature_name_of(document: Mapping[str, Any]) -> str:
    """Returns the name of the signature in a parsed request; empty if there is none."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise malformed(
            document, "not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def check_examples(document: Mapping[str, Any]) -> None:
    """Raises RequestError unless a request to classify or to regress has a list of examples."""
    if "examples" not in document:
        raise malformed(
            document, "When method is classify, key 'examples' is expected and was not found"
        )
    if not isinstance(document["examples"], list):
        raise malformed(document, "Expecting 'examples' value to be an list/array")
    if not document["examples"]:
        raise malformed(document, "'examples' value is an empty array")


def format_of(document: Mapping[str, Any]) -> str:
    """Returns the format of a parsed request, ROW or COLUMNAR."""
    keys = [key for key in (ROW, COLUMNAR) if key in document]
    if not keys:
        raise invalid(f"Missing '{COLUMNAR}' or '{ROW}' key")
    if len(keys) > 1:
        reason = f"expecting only one of '{COLUMNAR}' or '{ROW}' keys to exist"
        raise malformed(document, f"Not formatted correctly {reason}")
    return keys[0]


def _columns(value: Any, inputs: Mapping[str, TensorInfo]) -> dict[str, Any]:
    if not _is_named(value):
        reason = "inputs is a plain value/list, but expecting an object"
        return {_single_name(inputs, reason): value}
    for name in inputs:
        if name not in value:
            raise invalid(f"Missing named input: {name} in '{COLUMNAR}' object.")
    return {name: value[name] for name in inputs}


def _join_rows(
    document: Mapping[str, Any], inputs: Mapping[str, TensorInfo]
) -> dict[str, list[Any]]:
    """Returns input name -> the list of its values in all rows."""
    rows = document[ROW]
    if not isinstance(rows, list):
        raise malformed(document, f"Expecting '{ROW}' to be an list/array")
    if not rows:
        raise malformed(document, f"No values in '{ROW}' array")
    are_named = _is_named(rows[0])
    for index, row in enumerate(rows):
        if _is_named(row) != are_named:
            kinds = "object but got list" if are_named else "value/list but got object"
            raise invalid(f"Expecting {kinds} at item {index} of input list")
        if are_named and row.keys() != inputs.keys():
            raise _wrong_keys(index, row, inputs)
    if are_named:
        return {name: [row[name] for row in rows] for name in inputs}
    reason = "instances is a plain list, but expecting list of objects"
    return {_single_name(inputs, reason): rows}


def _wrong_keys(
    index: int, row: Mapping[str, Any], inputs: Mapping[str, TensorInfo]
) -> RequestError:
    for name in row:
        if name not in inputs:
            error = f"INVALID_ARGUMENT: JSON object: does not have named input: {name[:200]}"
            return _failed(f"{index} key: {name[:200]}", error)
    element = f"Failed to process element: {index} of '{ROW}' list. JSON object: {text_of(row)}"
    return invalid(f"{element} keys must be equal to: {','.join(sorted(inputs))}")


def _single_name(inputs: Mapping[str, TensorInfo], reason: str) -> str:
    if len(inputs) != 1:
        raise invalid(f"{reason} as multiple input tensors required as per tensorinfo_map")
    return next(iter(inputs))


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)
