"""NumPy arrays to TensorProtos and back, without TensorFlow; nothing from outside is trusted."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .protos import DataType, TensorProto

STRING = DataType.DT_STRING
_VALUES = {
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
_TYPES: dict[int, np.dtype[Any]] = {
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
_CODES = {dtype: code for code, dtype in _TYPES.items()}


def dtype_name(code: int) -> str:
    """The name of a DataType as TensorFlow writes it: 9 -> "uint8"."""
    try:
        return str(DataType(code).name).removeprefix("DT_").lower()
    except ValueError:
        return f"type {code}"


def to_proto(array: np.ndarray | Sequence[bytes]) -> Any:
    """A TensorProto of a numeric or boolean array, or of a list of byte strings.

    Raises:
        TypeError: for an array of another dtype.
    """
    if not isinstance(array, np.ndarray):
        array = np.array(list(array), object)
    shape = TensorProto().tensor_shape
    for size in array.shape:
        shape.dim.add(size=size)
    if array.dtype == object:
        values = [bytes(value) for value in array.ravel()]
        return TensorProto(dtype=STRING, tensor_shape=shape, string_val=values)
    code = _CODES.get(array.dtype.newbyteorder("<"))
    if code is None:
        raise TypeError(f"expected a number, a boolean or bytes; got an array of {array.dtype}")
    content = np.ascontiguousarray(array, _TYPES[code]).tobytes()
    return TensorProto(dtype=code, tensor_shape=shape, tensor_content=content)


def shape_of(proto: Any) -> tuple[int, ...]:
    """The sizes of a TensorProto.

    Raises:
        ValueError: if its rank is unknown or a size is negative.
    """
    if proto.tensor_shape.unknown_rank:
        raise ValueError("the shape has no rank")
    sizes = tuple(dim.size for dim in proto.tensor_shape.dim)
    if any(size < 0 for size in sizes):
        raise ValueError(f"the shape {list(sizes)} has a negative size")
    return sizes


def to_array(proto: Any, max_bytes: int = 2**31) -> np.ndarray:
    """The array of a TensorProto: of its dtype, or of objects of type bytes.

    As in TensorFlow, the last of fewer values than the shape asks for is repeated.

    Args:
        proto: TensorProto, from anybody.
        max_bytes: largest array that is made, so that a few bytes never ask for all memory.

    Raises:
        ValueError: if dtype, shape and values do not fit together, or the array is too large.
    """
    sizes = shape_of(proto)
    count = math.prod(sizes)
    dtype: Any = np.dtype(object) if proto.dtype == STRING else _TYPES.get(proto.dtype)
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
    values = proto.string_val if proto.dtype == STRING else getattr(proto, _VALUES[proto.dtype])
    if len(values) > count or (count and not len(values)):
        raise ValueError(f"the shape {list(sizes)} needs {count:,} values; got {len(values):,}")
    array = np.empty(count, dtype)
    if count:
        # The values of a small type travel as wider ones; what does not fit wraps, as in C.
        given = list(values) if proto.dtype == STRING else np.asarray(values).astype(dtype)
        array[: len(values)] = given
        array[len(values) :] = values[-1] if proto.dtype == STRING else given[-1]
    return array.reshape(sizes)
