import base64
import io
import json

import grpc
import numpy as np
import pytest
from PIL import Image

from serving.server.errors import RequestError
from serving.server.frontends import http_limits, json_tensors, json_values
from serving.server.frontends.json_outputs import to_json
from serving.server.frontends.json_tensors import COLUMNAR, ROW, parse, to_tensors
from serving.wire.protos import DataType, TensorInfo
from serving.wire.tensors import to_array


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
    monkeypatch.setattr(json_values, "_to_bytes", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(RequestError, match=r"got 1,025 strings; at most 1,024 are allowed"):
        read(body.encode(), BYTES)


def test_an_error_names_a_row_only_among_the_first_1024():
    body = {"instances": [*[1] * 1023, "a"]}
    with pytest.raises(RequestError, match="Failed to process element: 1023 of"):
        read(json.dumps(body).encode(), IMAGES)
    body["instances"].insert(0, 1)
    with pytest.raises(RequestError, match=r'^JSON Value: "a" Type: String'):
        read(json.dumps(body).encode(), IMAGES)


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


FAILED = "Failed to process element: "
VALUE = "of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: "


@pytest.mark.parametrize(
    ("body", "inputs", "message"),
    [
        (b"", IMAGES, "JSON Parse error: The document is empty"),
        (b"{", IMAGES, "JSON Parse error: unexpected end of data at offset: 1"),
        (b"\xff", IMAGES, "JSON Parse error: "),
        (b'{"inputs" [1]}', IMAGES, "JSON Parse error: .* at offset: 10"),
        (b"[1]", IMAGES, r"JSON Value: \[1\] Is not object"),
        (b"[" * 50_000, IMAGES, "JSON Parse error: "),
        (b'{"inputs": [NaN,' + b"[" * 50_000, FLOATS, "JSON Parse error: "),
        (b'{"inputs": [NaN, "\\ud800"]}', BYTES, "JSON Parse error: "),
        (b'{"inputs":' + b"[" * 500 + b"]" * 500 + b"}", IMAGES, "more than 32 deep"),
        (b"{}", IMAGES, "Missing 'inputs' or 'instances' key"),
        (
            b'{"inputs": [1], "instances": [1]}',
            IMAGES,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist",
        ),
        (
            b'{"instances": {"images": 1}}',
            IMAGES,
            'JSON Value: {"instances":{"images":1}} Expecting \'instances\' to be an list/array',
        ),
        (b'{"instances": []}', IMAGES, "No values in 'instances' array"),
        (
            b'{"inputs": [[1, 2], [3]]}',
            IMAGES,
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            b'{"inputs": [[1, 2], 3]}',
            IMAGES,
            "JSON Value: 3 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (b'{"inputs": [1, [2]]}', IMAGES, "list at unexpected level: 1 expected < 1"),
        (
            b'{"instances": [[1, 2], [3]]}',
            IMAGES,
            f"{FAILED}1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2 but "
            "got: 1",
        ),
        (b'{"instances": [[[1, 2]], [[1], [2]]]}', IMAGES, r"shape \[1,2\] but got: \[2,1\]"),
        (b'{"instances": [256]}', IMAGES, "JSON Value: 256 .* is not of expected type: uint8"),
        (b'{"instances": [-1]}', IMAGES, "JSON Value: -1 .* is not of expected type: uint8"),
        (b'{"instances": [1e400]}', IMAGES, "JSON Parse error"),
        (
            b'{"instances": [1, 2.0]}',
            IMAGES,
            f"{FAILED}1 {VALUE}2.0 Type: Number is not of expected type: uint8",
        ),
        (b'{"instances": [true]}', IMAGES, f"{FAILED}0 {VALUE}true Type: True is not of expected"),
        (
            b'{"instances": [{"images": "1"}]}',
            IMAGES,
            f'{FAILED}0 key: images {VALUE}"1" Type: String is not of expected type: uint8',
        ),
        (b'{"inputs": [null]}', FLOATS, "JSON Value: null Type: Null is not of expected type: fl"),
        (b'{"instances": [1e39]}', FLOATS, "is not of expected type: float"),
        (b'{"instances": [1]}', signature(x=DataType.DT_BOOL), "is not of expected type: bool"),
        (b'{"instances": [1]}', BYTES, "Type: Number is not of expected type: string"),
        (b'{"instances": [{"b64": "a"}]}', BYTES, "Unable to base64 decode"),
        (b'{"instances": [{"b64": "$$$$"}]}', BYTES, "Unable to base64 decode"),
        (b'{"instances": [{"b64": "\xc3\xa9"}]}', BYTES, "Unable to base64 decode"),
        (b'{"inputs": [{"a": 1}]}', BYTES, "not formatted correctly for base64 data"),
        (b'{"instances": [{"b64": 1}]}', BYTES, "0 key: b64 .* does not have named input: b64"),
        (
            b'{"instances": [{"a": 1}]}',
            TWO,
            "element: 0 of 'instances' list. JSON object: {\"a\":1} keys must be equal to: a,b",
        ),
        (
            b'{"instances": [{"a": 1, "b": true, "c": 1}]}',
            TWO,
            "element: 0 key: c of .* JSON object: does not have named input: c",
        ),
        (b'{"instances": [1]}', TWO, "instances is a plain list, but expecting list of objects as"),
        (
            b'{"instances": [{"a": 1, "b": true}, 1]}',
            TWO,
            "Expecting object but got list at item 1 of input list",
        ),
        (
            b'{"instances": [1, {"a": 1, "b": true}]}',
            TWO,
            "Expecting value/list but got object at item 1 of input list",
        ),
        (b'{"inputs": [1]}', TWO, "inputs is a plain value/list, but expecting an object as multi"),
        (b'{"inputs": {"a": 1}}', TWO, "Missing named input: b in 'inputs' object."),
    ],
)
def test_invalid_documents_are_refused_with_the_reason(body, inputs, message):
    with pytest.raises(RequestError, match=message) as caught:
        read(body, inputs)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b'{"inputs": [1]} and text', [1]),
        (b' {"inputs": [1]}{"inputs": [2]}', [1]),
        (b'{"inputs": [1], "inputs": [2]}', [1]),
        (b'{"inputs": [1, 2], "signature_name": "inputs"}', [1, 2]),
    ],
)
def test_the_first_document_and_the_first_of_equal_keys_count(body, values):
    assert read(body, IMAGES)["images"].tolist() == values
    assert read(body.replace(b"1", b"NaN"), FLOATS)["x"].shape == (len(values),)


def test_a_message_has_the_beginning_of_a_large_value():
    body = json.dumps({"instances": {"images": [0] * 1_000_000}}).encode()
    with pytest.raises(RequestError, match=r"^JSON Value: .{256}\.\.\. Expecting 'instances'"):
        read(body, IMAGES)


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
    with pytest.raises(RequestError, match="JSON Value: 1 to type: complex64") as caught:
        read(b'{"inputs": [1]}', signature(x=DataType.DT_COMPLEX64))
    assert caught.value.code == grpc.StatusCode.UNIMPLEMENTED


def test_one_output_is_a_plain_list_in_both_formats():
    outputs = {"images": np.array([[1, 2], [3, 4]], np.uint8)}
    assert json.loads(to_json(outputs, ROW)) == {"predictions": [[1, 2], [3, 4]]}
    assert json.loads(to_json(outputs, COLUMNAR)) == {"outputs": [[1, 2], [3, 4]]}


def test_several_outputs_are_an_object_for_each_row_or_one_of_columns():
    outputs = {"mse": np.array([0.5, 1], np.float32), "status": np.array([b"", b"bad"], object)}
    assert json.loads(to_json(outputs, ROW)) == {
        "predictions": [{"mse": 0.5, "status": ""}, {"mse": 1.0, "status": "bad"}]
    }
    assert json.loads(to_json(outputs, COLUMNAR)) == {
        "outputs": {"mse": [0.5, 1.0], "status": ["", "bad"]}
    }


def test_only_names_that_end_in_bytes_are_written_as_base64():
    outputs = {"png_bytes": np.array([b"\xff"], object), "text": np.array([b'\xff a"'], object)}
    assert json.loads(to_json(outputs, COLUMNAR)) == {
        "outputs": {"png_bytes": [{"b64": "/w=="}], "text": ['� a"']}
    }


def test_non_finite_numbers_are_written_like_tensorflow_serving():
    array = np.array([[1, np.nan], [np.inf, -np.inf]], np.float32)
    assert to_json({"x": array}, ROW) == b'{"predictions":[[1.0,NaN],[Infinity,-Infinity]]}'
    rows = to_json({"x": array, "y": array[:, 0]}, ROW)
    assert rows == (
        b'{"predictions":[{"x":[1.0,NaN],"y":1.0},{"x":[Infinity,-Infinity],"y":Infinity}]}'
    )


def test_floats_are_written_with_as_many_digits_as_they_have():
    array = np.array([0.1, 1, 1e-7, 16777216], np.float32)
    text = to_json({"x": array}, ROW)
    assert text.startswith(b'{"predictions":[0.1,1.0,')
    written = np.array(json.loads(text)["predictions"], np.float32)
    np.testing.assert_array_equal(written, array)


def test_scalars_and_empty_batches_are_written():
    assert to_json({"x": np.array(3, np.int32)}, COLUMNAR) == b'{"outputs":3}'
    assert to_json({"x": np.array(np.nan)}, COLUMNAR) == b'{"outputs":NaN}'
    assert to_json({"x": np.zeros((0, 3), np.uint8)}, ROW) == b'{"predictions":[]}'


@pytest.mark.parametrize(
    "arrays", [[np.zeros(2), np.zeros(3)], [np.zeros(2), np.array(0.0)], [np.array(0.0)]]
)
def test_rows_need_outputs_with_a_common_number_of_rows(arrays):
    outputs = {str(index): array for index, array in enumerate(arrays)}
    with pytest.raises(RequestError, match=r"batch size: 3 expecting: 2|no shape information"):
        to_json(outputs, ROW)
