import numpy as np
import pytest
import tensorflow as tf

from serving.wire.protos import DataType, TensorProto
from serving.wire.tensors import serialize, to_array, to_proto


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


OUTPUTS = [
    np.array([[0, 127, 128], [200, 255, 1]], np.uint8),
    np.array([-128, -1, 127], np.int8),
    np.array([-(2**31), 2**31 - 1], np.int32),
    np.array([-(2**63), 2**63 - 1], np.int64),
    np.array([2**32 - 1, 0], np.uint32),
    np.array([2**64 - 1, 1], np.uint64),
    np.array([0.1, np.nan, -np.inf], np.float32),
    np.array([[1e300]], np.float64),
    np.array([1, 2], ">f4"),
    np.arange(12, dtype=np.float32).reshape(3, 4).T,
    np.array([1.5, -0.0, np.inf], np.float16),
    np.array([1.5, -2], tf.bfloat16.as_numpy_dtype),
    np.array([1 + 2j, -1j], np.complex64),
    np.array([[1 + 2j]], np.complex128),
    np.array([0, 2**16 - 1], np.uint16),
    np.array(0.5, np.float32),
    np.array(b"text", object),
    np.array([True, False]),
    np.array([b"a", b"", b"\xff" * 300], object),
    np.zeros((0, 3), np.float32),
    np.zeros(0, object),
]


@pytest.mark.parametrize("as_content", [False, True])
@pytest.mark.parametrize("array", OUTPUTS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_outputs_are_written_as_tensorflow_reads_them(array, as_content):
    data = serialize(array, as_content)
    message = TensorProto.FromString(data)
    assert as_content or not message.tensor_content
    np.testing.assert_array_equal(to_array(message), array)
    theirs = tf.io.parse_tensor(data, message.dtype)
    assert theirs.shape == array.shape
    np.testing.assert_array_equal(theirs.numpy(), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x01", "fewer than 2 strings"),
        (b"\x01\x02ab", "need 5 bytes; got 4"),
        (b"\x01\x00ab", "need 3 bytes; got 4"),
        (b"\x01" + b"\xff" * 10 + b"\x01", "no sizes of strings"),
        (b"\xff" * 8 + b"\x7f\x01", "bytes; got 10"),
    ],
)
def test_strings_in_tensor_content_that_do_not_fit_are_refused(content, message):
    with pytest.raises(ValueError, match=message):
        to_array(proto(DataType.DT_STRING, [2], tensor_content=content))


def test_the_last_value_is_repeated():
    proto = TensorProto(dtype=DataType.DT_UINT8, int_val=[3, 200])
    proto.tensor_shape.dim.add(size=4)
    assert to_array(proto).tolist() == tf.make_ndarray(proto).tolist() == [3, 200, 200, 200]


def test_values_out_of_range_wrap():
    assert to_array(proto(sizes=[3], int_val=[256, -1, 7])).tolist() == [0, 255, 7]


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
        (proto(DataType.DT_COMPLEX64, sizes=[1], scomplex_val=[1]), "size must be a divisor"),
        (proto(999, sizes=[1]), "type 999 is not supported"),
        (proto(DataType.DT_STRING, sizes=[1], tensor_content=b"a"), "need 98 bytes; got 1"),
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
    with pytest.raises(TypeError, match="datetime64"):
        to_proto(np.zeros(1, "datetime64[s]"))
