import base64
import io
import json

import grpc
import numpy as np
import pytest
from PIL import Image

from serving.server.errors import RequestError
from serving.server.frontends import http_limits, json_tensors
from serving.server.frontends.json_tensors import COLUMNAR, ROW, parse, to_json, to_tensors
from serving.wire.protos import DataType, TensorInfo, TensorProto
from serving.wire.tensors import to_array, to_proto


def signature(**dtypes):
    return {name: TensorInfo(dtype=dtype) for name, dtype in dtypes.items()}


IMAGES = signature(images=DataType.DT_UINT8)
FLOATS = signature(x=DataType.DT_FLOAT)
BYTES = signature(image_bytes=DataType.DT_STRING)
TWO = signature(a=DataType.DT_INT32, b=DataType.DT_BOOL)


def read(body, inputs):
    tensors = to_tensors(parse(body), inputs)
    return {name: to_array(tensor) for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("dtype", "text", "values"),
    [
        (DataType.DT_UINT8, "[0, 255]", np.array([0, 255], np.uint8)),
        (DataType.DT_INT8, "[-128]", np.array([-128], np.int8)),
        (DataType.DT_INT64, "[-9223372036854775808]", np.array([-(2**63)], np.int64)),
        (DataType.DT_UINT64, "[18446744073709551615]", np.array([2**64 - 1], np.uint64)),
        (DataType.DT_FLOAT, "[1, 0.1]", np.array([1, 0.1], np.float32)),
        (DataType.DT_FLOAT, "[NaN, -Infinity]", np.array([np.nan, -np.inf], np.float32)),
        (DataType.DT_DOUBLE, "[1e300]", np.array([1e300])),
        (DataType.DT_BOOL, "[true, false]", np.array([True, False])),
        (DataType.DT_UINT8, "7", np.array(7, np.uint8)),
        (DataType.DT_UINT8, "[[], []]", np.zeros((2, 0), np.uint8)),
    ],
)
def test_values_take_the_dtype_of_the_input(dtype, text, values):
    array = read(f'{{"inputs": {text}}}'.encode(), signature(x=dtype))["x"]
    assert array.dtype == values.dtype
    np.testing.assert_array_equal(array, values)


def test_large_arrays_keep_their_shape_and_values():
    images = np.random.default_rng(0).integers(0, 256, (4, 33, 17, 3), np.uint8)
    body = json.dumps({"instances": images.tolist()}).encode()
    np.testing.assert_array_equal(read(body, IMAGES)["images"], images)


@pytest.mark.parametrize(
    "values", ["0," * 99 + "0", "[]," * 99 + "[]", "[" * 100 + "]" * 100, '{"a":0},' * 99 + "0"]
)
def test_too_many_values_are_refused_before_they_are_parsed(monkeypatch, values):
    monkeypatch.setattr(http_limits, "MAX_VALUES", 98)
    body = f'{{"inputs": [{values}]}}'.encode()
    monkeypatch.setattr(json_tensors.orjson, "loads", lambda body: pytest.fail("was read"))
    with pytest.raises(RequestError, match="more than 98 values; send images as PNG in b64") as e:
        parse(body)
    assert e.value.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("counted_bytes", [2**20, 7])
def test_too_many_base64_strings_are_refused_before_they_are_parsed(monkeypatch, counted_bytes):
    monkeypatch.setattr(http_limits, "_COUNTED_BYTES", counted_bytes)
    strings = [{"b64": "AA=="}] * 1025
    assert len(read(json.dumps({"inputs": strings[1:]}).encode(), BYTES)["image_bytes"]) == 1024
    monkeypatch.setattr(json_tensors.orjson, "loads", lambda body: pytest.fail("was read"))
    with pytest.raises(RequestError, match=r"more than 1,024 strings in b64; send fewer images"):
        parse(json.dumps({"inputs": strings}).encode())


def test_too_many_strings_are_refused_before_they_are_decoded(monkeypatch):
    body = json.dumps({"inputs": [{"b64": "AA=="}] * 1025}).replace("b64", r"\u0062\u0036\u0034")
    monkeypatch.setattr(json_tensors, "_to_bytes", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(RequestError, match=r"got 1,025 strings; at most 1,024 are allowed"):
        read(body.encode(), BYTES)


def test_base64_of_the_same_size_is_read(monkeypatch):
    monkeypatch.setattr(http_limits, "MAX_VALUES", 98)
    body = json.dumps({"inputs": [{"b64": "AAAA" * 500}, {"b64": "AAAA" * 500}]}).encode()
    assert read(body, BYTES)["image_bytes"].tolist() == [bytes(1500)] * 2


def test_rows_may_be_objects_by_input():
    found = read(b'{"instances": [{"a": 1, "b": true}, {"a": 2, "b": false}]}', TWO)
    assert found["a"].tolist() == [1, 2]
    assert found["b"].tolist() == [True, False]


def test_columns_may_be_objects_by_input():
    found = read(b'{"inputs": {"a": [1, 2], "b": true}}', TWO)
    assert found["a"].tolist() == [1, 2]
    assert found["b"].tolist() is True


def test_strings_come_plain_or_as_base64():
    body = b'{"instances": ["\xc3\xa9", {"b64": "/w=="}, {"b64": "/w"}, {"b64": "\\n/w==\\n"}]}'
    assert read(body, BYTES)["image_bytes"].tolist() == ["é".encode(), b"\xff", b"\xff", b"\xff"]


@pytest.mark.parametrize(
    ("body", "inputs", "message"),
    [
        (b"", IMAGES, "the body is empty"),
        (b"{", IMAGES, "JSON parse error"),
        (b"\xff", IMAGES, "JSON parse error"),
        (b"[1]", IMAGES, "expected an object, got an array"),
        (b"[" * 50_000, IMAGES, "JSON parse error"),
        (b'{"inputs": [NaN,' + b"[" * 50_000, FLOATS, "JSON parse error"),
        (b'{"inputs": [NaN, "\\ud800"]}', BYTES, "JSON parse error"),
        (b'{"inputs":' + b"[" * 500 + b"]" * 500 + b"}", IMAGES, "more than 32 deep"),
        (b"{}", IMAGES, "got neither"),
        (b'{"inputs": [1], "instances": [1]}', IMAGES, "got both"),
        (b'{"instances": {"images": 1}}', IMAGES, "expected an array, got an object"),
        (b'{"instances": []}', IMAGES, "got an empty array"),
        (b'{"instances": [[1, 2], [3]]}', IMAGES, "level 1 have different sizes, 1 to 2"),
        (b'{"instances": [[1, 2], 3]}', IMAGES, "mixed at level 1"),
        (b'{"instances": [1, [2]]}', IMAGES, "got an array"),
        (b'{"instances": [256]}', IMAGES, "images: .*256 out of bounds for uint8"),
        (b'{"instances": [-1]}', IMAGES, "-1 out of bounds for uint8"),
        (b'{"instances": [1e400]}', IMAGES, "JSON parse error"),
        (b'{"instances": [2.0]}', IMAGES, "expected uint8, got the number with a fraction 2.0"),
        (b'{"instances": [1, true]}', IMAGES, "expected uint8, got the boolean true"),
        (b'{"instances": ["1"]}', IMAGES, 'expected uint8, got the string "1"'),
        (b'{"instances": [null]}', FLOATS, "expected float, got null"),
        (b'{"instances": [1e39]}', FLOATS, "out of bounds for float"),
        (b'{"instances": [1]}', signature(x=DataType.DT_BOOL), "expected bool, got the integer 1"),
        (b'{"instances": [1]}', BYTES, 'expected a string or {"b64": ".."}, got the integer 1'),
        (b'{"instances": [{"b64": "a"}]}', BYTES, "is not base64"),
        (b'{"instances": [{"b64": "$$$$"}]}', BYTES, "is not base64"),
        (b'{"instances": [{"b64": "\xc3\xa9"}]}', BYTES, "is not base64"),
        (b'{"instances": [{"b64": 1}]}', BYTES, "keys b64; expected image_bytes"),
        (b'{"instances": [{"a": 1}]}', TWO, "item 0 has the keys a; expected a, b"),
        (b'{"instances": [{"a": 1, "b": true, "c": 1}]}', TWO, "item 0 has the keys a, b, c"),
        (b'{"instances": [1]}', TWO, "name the 2 inputs: a, b"),
        (b'{"instances": [{"a": 1, "b": true}, 1]}', TWO, "mixed at item 1"),
        (b'{"inputs": [1]}', TWO, "name the 2 inputs: a, b"),
        (b'{"inputs": {"a": 1}}', TWO, "misses b; got a"),
    ],
)
def test_invalid_documents_are_refused_with_the_reason(body, inputs, message):
    with pytest.raises(RequestError, match=message) as caught:
        read(body, inputs)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_base64_as_plain_text_gets_a_hint(kind, prefix):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind)
    text = prefix + base64.b64encode(file.getvalue()).decode()
    for row in (text, {"image_bytes": text}):
        with pytest.raises(RequestError, match=r"base64 is not decoded; send .*b64") as error:
            read(json.dumps({"instances": [row]}).encode(), BYTES)
        assert len(error.value.message) < 300


def test_a_dtype_without_a_json_representation_is_unimplemented():
    with pytest.raises(RequestError, match="complex64; use gRPC") as caught:
        read(b'{"inputs": [1]}', signature(x=DataType.DT_COMPLEX64))
    assert caught.value.code == grpc.StatusCode.UNIMPLEMENTED


def test_one_output_is_a_plain_list_in_both_formats():
    tensors = {"images": to_proto(np.array([[1, 2], [3, 4]], np.uint8))}
    assert json.loads(to_json(tensors, ROW)) == {"predictions": [[1, 2], [3, 4]]}
    assert json.loads(to_json(tensors, COLUMNAR)) == {"outputs": [[1, 2], [3, 4]]}


def test_several_outputs_are_an_object_for_each_row_or_one_of_columns():
    tensors = {"mse": to_proto(np.array([0.5, 1], np.float32)), "status": to_proto([b"", b"bad"])}
    assert json.loads(to_json(tensors, ROW)) == {
        "predictions": [{"mse": 0.5, "status": ""}, {"mse": 1.0, "status": "bad"}]
    }
    assert json.loads(to_json(tensors, COLUMNAR)) == {
        "outputs": {"mse": [0.5, 1.0], "status": ["", "bad"]}
    }


def test_only_names_that_end_in_bytes_are_written_as_base64():
    tensors = {"png_bytes": to_proto([b"\xff"]), "text": to_proto([b'\xff a"'])}
    assert json.loads(to_json(tensors, COLUMNAR)) == {
        "outputs": {"png_bytes": [{"b64": "/w=="}], "text": ['� a"']}
    }


def test_non_finite_numbers_are_written_like_tensorflow_serving():
    array = np.array([[1, np.nan], [np.inf, -np.inf]], np.float32)
    assert (
        to_json({"x": to_proto(array)}, ROW) == b'{"predictions":[[1.0,NaN],[Infinity,-Infinity]]}'
    )
    rows = to_json({"x": to_proto(array), "y": to_proto(array[:, 0])}, ROW)
    assert rows == (
        b'{"predictions":[{"x":[1.0,NaN],"y":1.0},{"x":[Infinity,-Infinity],"y":Infinity}]}'
    )


def test_floats_are_written_with_as_many_digits_as_they_have():
    array = np.array([0.1, 1, 1e-7, 16777216], np.float32)
    text = to_json({"x": to_proto(array)}, ROW)
    assert text.startswith(b'{"predictions":[0.1,1.0,')
    written = np.array(json.loads(text)["predictions"], np.float32)
    np.testing.assert_array_equal(written, array)


def test_scalars_and_empty_batches_are_written():
    assert to_json({"x": to_proto(np.array(3, np.int32))}, COLUMNAR) == b'{"outputs":3}'
    assert to_json({"x": to_proto(np.array(np.nan))}, COLUMNAR) == b'{"outputs":NaN}'
    assert to_json({"x": to_proto(np.zeros((0, 3), np.uint8))}, ROW) == b'{"predictions":[]}'


@pytest.mark.parametrize(
    "arrays", [[np.zeros(2), np.zeros(3)], [np.zeros(2), np.array(0.0)], [np.array(0.0)]]
)
def test_rows_need_outputs_with_a_common_number_of_rows(arrays):
    tensors = {str(index): to_proto(array) for index, array in enumerate(arrays)}
    with pytest.raises(RequestError, match="no common number of rows; send the request"):
        to_json(tensors, ROW)


def test_a_tensor_that_repeats_its_value_is_written_in_full():
    tensor = TensorProto(dtype=DataType.DT_FLOAT, float_val=[0.5])
    tensor.tensor_shape.dim.add(size=3)
    assert json.loads(to_json({"x": tensor}, ROW)) == {"predictions": [0.5, 0.5, 0.5]}
