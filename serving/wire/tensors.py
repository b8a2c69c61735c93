"""Conversion between NumPy arrays and TensorProtos, without TensorFlow.

A TensorProto may come from an untrusted client, so its shape is checked before memory is allocated.
"""

import math
from collections.abc import Sequence

import numpy as np

from .protos import DataType, TensorProto

STRING = DataType.DT_STRING
# The dtype of tensor_content, and the field of values that are listed instead.
_FORMATS: dict[int, tuple[str, str]] = {
    DataType.DT_FLOAT: ("<f4", "float_val"),
    DataType.DT_DOUBLE: ("<f8", "double_val"),
    DataType.DT_INT32: ("<i4", "int_val"),
    DataType.DT_INT16: ("<i2", "int_val"),
    DataType.DT_INT8: ("i1", "int_val"),
    DataType.DT_UINT8: ("u1", "int_val"),
    DataType.DT_INT64: ("<i8", "int64_val"),
    DataType.DT_UINT32: ("<u4", "uint32_val"),
    DataType.DT_UINT64: ("<u8", "uint64_val"),
    DataType.DT_BOOL: ("?", "bool_val"),
    DataType.DT_STRING: ("O", "string_val"),
}
DTYPES = {data_type: np.dtype(code) for data_type, (code, _) in _FORMATS.items()}
"""DataType -> NumPy's dtype, for all that can be converted; strings are objects."""
_DATA_TYPES = {dtype: data_type for data_type, dtype in DTYPES.items()}


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
    data_type = _DATA_TYPES.get(array.dtype.newbyteorder("<"))
    if data_type is None:
        raise TypeError(f"expected a number, a boolean or bytes; got an array of {array.dtype}")
    shape = {"dim": [{"size": size} for size in array.shape]}
    if data_type == STRING:
        values = [bytes(value) for value in array.ravel()]
        return TensorProto(dtype=STRING, tensor_shape=shape, string_val=values)
    content = np.ascontiguousarray(array, DTYPES[data_type]).tobytes()
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
        max_bytes: size of the largest array to allocate.

    Raises:
        ValueError: if dtype, shape and values do not fit together, or the array is too large.
    """
    sizes = shape_of(proto)
    count, dtype = math.prod(sizes), DTYPES.get(proto.dtype)
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
    values = getattr(proto, _FORMATS[proto.dtype][1])
    if len(values) > count or (count and not len(values)):
        raise ValueError(f"the shape {list(sizes)} needs {count:,} values; got {len(values):,}")
    array = np.empty(count, dtype)
    if count:
        # Small integer types are sent in fields of wider ones; values out of range wrap.
        kind = object if proto.dtype == STRING else None
        array[: len(values)] = np.asarray(values, kind).astype(dtype)
        array[len(values) :] = array[len(values) - 1]
    return array.reshape(sizes)
