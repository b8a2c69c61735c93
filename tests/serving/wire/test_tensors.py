import numpy as np
import pytest
import tensorflow as tf

from serving.wire.protos import DataType, TensorProto
from serving.wire.tensors import to_array, to_proto


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1),
        np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2),
        np.array([], np.float64),
        np.array(7, np.int64),
        np.array([True, False]),
        np.array([1, 2], ">i4"),
    ],
)
def test_arrays_round_trip_and_equal_tensorflows(array):
    proto = to_proto(array)
    np.testing.assert_array_equal(to_array(proto), array)
    theirs = tf.make_tensor_proto(array.astype(array.dtype.newbyteorder("=")))
    np.testing.assert_array_equal(to_array(theirs), array)
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)


def test_bytes_round_trip_and_equal_tensorflows():
    strings = [b"a", b"", b"\xff\x00"]
    assert to_array(to_proto(strings)).tolist() == strings
    assert tf.make_ndarray(to_proto(strings)).tolist() == strings
    assert to_array(tf.make_tensor_proto(strings)).tolist() == strings


def test_the_last_value_is_repeated():
    proto = TensorProto(dtype=DataType.DT_UINT8, int_val=[3, 200])
    proto.tensor_shape.dim.add(size=4)
    assert to_array(proto).tolist() == tf.make_ndarray(proto).tolist() == [3, 200, 200, 200]


def proto(dtype=DataType.DT_UINT8, sizes=(), **values):
    message = TensorProto(dtype=dtype, **values)
    for size in sizes:
        message.tensor_shape.dim.add(size=size)
    return message


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (proto(sizes=[2**40], int_val=[1]), "larger than"),
        (proto(sizes=[2**62, 2**62], int_val=[1]), "larger than"),
        (proto(sizes=[-1], int_val=[1]), "negative"),
        (proto(sizes=[4], tensor_content=b"abc"), "needs 4 bytes; got 3"),
        (proto(sizes=[4]), "needs 4 values; got 0"),
        (proto(sizes=[1], int_val=[1, 2]), "needs 1 values; got 2"),
        (proto(DataType.DT_RESOURCE, sizes=[1]), "resource is not supported"),
        (proto(999, sizes=[1]), "type 999 is not supported"),
        (proto(DataType.DT_STRING, sizes=[1], tensor_content=b"a"), "strings as tensor_content"),
    ],
)
def test_inconsistent_protos_are_refused(tensor, message):
    with pytest.raises(ValueError, match=message):
        to_array(tensor)


def test_an_unknown_rank_is_refused():
    tensor = proto(int_val=[1])
    tensor.tensor_shape.unknown_rank = True
    with pytest.raises(ValueError, match="no rank"):
        to_array(tensor)


def test_an_array_of_an_unsupported_dtype_is_refused():
    with pytest.raises(TypeError, match="complex128"):
        to_proto(np.zeros(1, complex))
