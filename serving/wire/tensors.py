"""Conversion between NumPy arrays and TensorProtos, without TensorFlow.

A TensorProto may come from an untrusted client, so its shape is checked before memory is allocated.
"""

import contextlib
import itertools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from .packing import delimited, varints
from .protos import DataType, TensorProto

STRING = DataType.DT_STRING
# The dtype, the field of its values, and the dtype as which they are in it, if it is another one.
_FORMATS: dict[int, tuple[str, str, str]] = {
    DataType.DT_FLOAT: ("float32", "float_val", ""),
    DataType.DT_DOUBLE: ("float64", "double_val", ""),
    DataType.DT_INT32: ("int32", "int_val", ""),
    DataType.DT_INT16: ("int16", "int_val", ""),
    DataType.DT_INT8: ("int8", "int_val", ""),
    DataType.DT_UINT8: ("uint8", "int_val", ""),
    DataType.DT_INT64: ("int64", "int64_val", ""),
    DataType.DT_UINT32: ("uint32", "uint32_val", ""),
    DataType.DT_UINT64: ("uint64", "uint64_val", ""),
    DataType.DT_UINT16: ("uint16", "int_val", ""),
    DataType.DT_HALF: ("float16", "half_val", "uint16"),
    DataType.DT_BFLOAT16: ("bfloat16", "half_val", "uint16"),
    DataType.DT_COMPLEX64: ("complex64", "scomplex_val", "float32"),
    DataType.DT_COMPLEX128: ("complex128", "dcomplex_val", "float64"),
    DataType.DT_BOOL: ("bool", "bool_val", ""),
    DataType.DT_STRING: ("object", "string_val", ""),
}
_FIELDS: Final = {
    "bool_val": "bool",
    "dcomplex_val": "float64",
    "double_val": "float64",
    "float_val": "float32",
    "half_val": "int32",
    "int64_val": "int64",
    "int_val": "int32",
    "scomplex_val": "float32",
    "string_val": "object",
    "uint32_val": "uint32",
    "uint64_val": "uint64",
}
_DATA_TYPES = {name: data_type for data_type, (name, _, _) in _FORMATS.items()}
_MAX_VARINT_BYTES = 10


def dtype_name(data_type: int) -> str:
    """Returns TensorFlow's name of a DataType, such as "float"; "type 99" if there is none."""
    try:
        return str(DataType(data_type).name).removeprefix("DT_").lower()
    except ValueError:
        return f"type {data_type}"


def dtype_of(data_type: int) -> np.dtype:
    """Returns NumPy's dtype, object for strings; raises ValueError if there is none.

    NumPy knows bfloat16 only after TensorFlow or ml_dtypes has been imported.
    """
    try:
        return np.dtype(_FORMATS[data_type][0]).newbyteorder("<")
    except (KeyError, TypeError):
        raise ValueError(f"a tensor of {dtype_name(data_type)} is not supported") from None


def data_type_of(array: np.ndarray) -> int:
    """Returns the DataType of an array; raises TypeError if there is none."""
    if array.dtype.name not in _DATA_TYPES:
        raise TypeError(f"expected a number, a boolean or bytes; got an array of {array.dtype}")
    return _DATA_TYPES[array.dtype.name]


def to_proto(array: np.ndarray | Sequence[bytes]) -> TensorProto:
    """Converts a numeric or boolean array, or a list of byte strings, to a TensorProto.

    Numbers are its tensor_content. Raises TypeError if the dtype has no counterpart in TensorProto.
    """
    if not isinstance(array, np.ndarray):
        array = np.array(list(array), object)
    proto = _describe(array)
    if proto.dtype == STRING:
        proto.string_val.extend(array.ravel())
    else:
        proto.tensor_content = np.ascontiguousarray(array, dtype_of(proto.dtype)).tobytes()
    return proto


def serialize(array: np.ndarray, as_content: bool) -> bytes:
    """Returns the bytes of the TensorProto that TensorFlow Serving makes of an output.

    Args:
        array: numbers, booleans, or byte strings of dtype object.
        as_content: whether the values are in tensor_content, not in the field of their type.

    Raises:
        TypeError: if the dtype has no counterpart in TensorProto.
    """
    proto = _describe(array)
    if proto.dtype == STRING:
        strings = array.ravel().tolist()
        if as_content:
            sizes = varints(np.array([*map(len, strings)], np.uint64))
            proto.tensor_content = b"".join((sizes, *strings))
        else:
            proto.string_val.extend(strings)
    elif as_content:
        proto.tensor_content = array.astype(dtype_of(proto.dtype), copy=False).tobytes()
    else:
        return b"".join((proto.SerializeToString(), _pack(array, *_FORMATS[proto.dtype][1:])))
    return proto.SerializeToString()


def _pack(array: np.ndarray, field: str, listed_as: str) -> bytes:
    values = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).ravel()
    if listed_as:
        values = values.view(listed_as)
    number = TensorProto.DESCRIPTOR.fields_by_name[field].number
    return delimited(number, values.tobytes() if values.dtype.kind in "fb" else varints(values))


def _describe(array: np.ndarray) -> TensorProto:
    shape = {"dim": [{"size": size} for size in array.shape]}
    return TensorProto(dtype=data_type_of(array), tensor_shape=shape)


def shape_of(proto: TensorProto) -> tuple[int, ...]:
    """Returns the shape of a TensorProto.

    Raises:
        ValueError: if its rank is unknown or a size is negative.
    """
    if proto.tensor_shape.unknown_rank:
        raise ValueError("the shape has no rank")
    sizes = tuple(dim.size for dim in proto.tensor_shape.dim)
    if any(size < 0 for size in sizes):
        raise ValueError(f"the shape {list(sizes)} has a negative size")
    return sizes


def to_array(proto: TensorProto, max_bytes: int = 2**31) -> np.ndarray:
    """Converts a TensorProto to an array; strings become an object array of bytes.

    As in TensorFlow, if there are fewer values than the shape needs, the last one is repeated.

    Args:
        proto: the tensor, which need not be trusted.
        max_bytes: size of the largest array to allocate.

    Raises:
        ValueError: if dtype, shape and values do not fit together, or the array is too large.
    """
    sizes, dtype = shape_of(proto), dtype_of(proto.dtype)
    count = math.prod(sizes)
    if count * dtype.itemsize > max_bytes:
        raise ValueError(f"the shape {list(sizes)} is larger than {max_bytes:,} bytes")
    if proto.tensor_content:
        if proto.dtype == STRING:
            return _strings(proto.tensor_content, count).reshape(sizes)
        if len(proto.tensor_content) != count * dtype.itemsize:
            raise ValueError(
                f"the shape {list(sizes)} of {dtype_name(proto.dtype)} needs "
                f"{count * dtype.itemsize:,} bytes; got {len(proto.tensor_content):,}"
            )
        return np.frombuffer(proto.tensor_content, dtype).reshape(sizes)
    values = _listed(proto, dtype)
    if len(values) > count or (count and not len(values)):
        raise ValueError(f"the shape {list(sizes)} needs {count:,} values; got {len(values):,}")
    array = np.empty(count, dtype)
    if count:
        array[: len(values)] = values
        array[len(values) :] = values[-1]
    return array.reshape(sizes)


def _listed(proto: TensorProto, dtype: np.dtype) -> np.ndarray:
    _, field, listed_as = _FORMATS[proto.dtype]
    # The slice is a list, which NumPy reads twice as fast as protobuf's sequence.
    values = getattr(proto, field)[:]
    if dtype == np.uint8:
        # Five times as fast for pixels, unless a value is out of range.
        with contextlib.suppress(ValueError):
            return np.frombuffer(bytes(values), dtype)
    # Small integer types are sent in fields of wider ones; values out of range wrap.
    return np.array(values, _FIELDS[field]).astype(listed_as or dtype).view(dtype)


def _strings(content: bytes, count: int) -> np.ndarray:
    """Reads TensorFlow's encoding of strings: their sizes as varints, then their bytes."""
    head = np.frombuffer(content[: _MAX_VARINT_BYTES * count], np.uint8)
    last_bytes = np.flatnonzero(head < 0x80)
    if len(last_bytes) < count:
        raise ValueError(f"tensor_content has fewer than {count:,} strings")
    start = int(last_bytes[count - 1]) + 1 if count else 0
    number = TensorProto.DESCRIPTOR.fields_by_name["uint64_val"].number
    try:
        sizes = TensorProto.FromString(delimited(number, content[:start])).uint64_val[:]
    except DecodeError as error:
        raise ValueError(f"tensor_content has no sizes of strings: {error}") from error
    ends = [*itertools.accumulate(sizes, initial=start)]
    if ends[-1] != len(content):
        raise ValueError(f"the strings need {ends[-1]:,} bytes; got {len(content):,}")
    strings = np.empty(count, object)
    strings[:] = [content[start:end] for start, end in itertools.pairwise(ends)]
    return strings
