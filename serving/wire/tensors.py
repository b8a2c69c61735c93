"""Conversion between NumPy arrays and TensorProtos, without TensorFlow.

A TensorProto may come from an untrusted client, so its shape is checked before memory is allocated.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .protos import DataType, TensorProto

STRING = DataType.DT_STRING
_VALUE_FIELDS = {
    DataType.DT_FLOAT: "float_val",
    DataType.DT_DOUBLE: "double_val",
    DataType.DT_INT32: "int_val",
    DataType.DT_INT16: "int_val",
    DataType.DT_INT8: "int_val",
    DataType.DT_UINT8: "int_val",
    DataType.DT_INT64: "int64_val",
    DataType.DT_UINT32: "uint32_val",
    DataType.DT_UINT64: "uint64_val",
    DataType.DT_BOOL: "bool_val",
}
_DTYPES: dict[int, np.dtype[Any]] = {
    DataType.DT_FLOAT: np.dtype("<f4"),
    DataType.DT_DOUBLE: np.dtype("<f8"),
    DataType.DT_INT32: np.dtype("<i4"),
    DataType.DT_INT16: np.dtype("<i2"),
    DataType.DT_INT8: np.dtype("i1"),
    DataType.DT_UINT8: np.dtype("u1"),
    DataType.DT_INT64: np.dtype("<i8"),
    DataType.DT_UINT32: np.dtype("<u4"),
    DataType.DT_UINT64: np.dtype("<u8"),
    DataType.DT_BOOL: np.dtype("?"),
}
_DATA_TYPES = {dtype: data_type for data_type, dtype in _DTYPES.items()}


def dtype_name(data_type: int) -> str:
    """Returns TensorFlow's name of a DataType, such as "float"; "type 99" if there is none."""
    try:
        return str(DataType(data_type).name).removeprefix("DT_").lower()
    except ValueError:
        return f"type {data_type}"


def to_proto(array: np.ndarray | Sequence[bytes]) -> TensorProto:
    """Converts a numeric or boolean array, or a list of byte strings, to a TensorProto.

    Raises:
        TypeError: if the dtype has no counterpart in TensorProto.
    """
    if not isinstance(array, np.ndarray):
        array = np.array(list(array), object)
    shape = TensorProto().tensor_shape
    for size in array.shape:
        shape.dim.add(size=size)
    if array.dtype == object:
        values = [bytes(value) for value in array.ravel()]
        return TensorProto(dtype=STRING, tensor_shape=shape, string_val=values)
    data_type = _DATA_TYPES.get(array.dtype.newbyteorder("<"))
    if data_type is None:
        raise TypeError(f"expected a number, a boolean or bytes; got an array of {array.dtype}")
    content = np.ascontiguousarray(array, _DTYPES[data_type]).tobytes()
    return TensorProto(dtype=data_type, tensor_shape=shape, tensor_content=content)


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
        max_bytes: size of the largest array to allocate, since a message of a few bytes can declare
            a shape of terabytes.

    Raises:
        ValueError: if dtype, shape and values do not fit together, or the array is too large.
    """
    sizes = shape_of(proto)
    count = math.prod(sizes)
    dtype = np.dtype(object) if proto.dtype == STRING else _DTYPES.get(proto.dtype)
    if dtype is None:
        raise ValueError(f"a tensor of {dtype_name(proto.dtype)} is not supported")
    if count * dtype.itemsize > max_bytes:
        raise ValueError(f"the shape {list(sizes)} is larger than {max_bytes:,} bytes")
    if proto.tensor_content:
        if proto.dtype == STRING:
            raise ValueError("strings as tensor_content are not supported")
        if len(proto.tensor_content) != count * dtype.itemsize:
            raise ValueError(
                f"the shape {list(sizes)} of {dtype_name(proto.dtype)} needs "
                f"{count * dtype.itemsize:,} bytes; got {len(proto.tensor_content):,}"
            )
        return np.frombuffer(proto.tensor_content, dtype).reshape(sizes)
    values: Sequence[Any] | np.ndarray
    if proto.dtype == STRING:
        values = list(proto.string_val)
    else:
        values = getattr(proto, _VALUE_FIELDS[proto.dtype])
    if len(values) > count or (count and not len(values)):
        raise ValueError(f"the shape {list(sizes)} needs {count:,} values; got {len(values):,}")
    array = np.empty(count, dtype)
    if count:
        if proto.dtype != STRING:
            # Small integer types are sent in fields of wider ones; values out of range wrap.
            values = np.asarray(values).astype(dtype)
        array[: len(values)] = values
        array[len(values) :] = values[-1]
    return array.reshape(sizes)
