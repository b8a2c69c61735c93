"""Outputs and inputs of every dtype and rank, over gRPC and REST."""

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf

from serving.wire.protos import DataType

JSON = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")
NOT_JSON = ("float16", "bfloat16", "uint16", "complex64", "complex128")
DTYPES = {name: tf.as_dtype(name) for name in (*JSON, *NOT_JSON, "bool")}


@pytest.fixture(scope="module")
def client(start_server, tmp_path_factory):
    """A client of a model whose signatures return their input and its first value."""
    base, module = tmp_path_factory.mktemp("dtypes"), tf.Module()

    def signature(dtype):
        @tf.function(input_signature=[tf.TensorSpec((None,), dtype, name="x")])
        def copy(x):
            return {"same": tf.identity(x), "first": x[0], "first_bytes": x[0]}

        return copy

    def converter(convert):
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.int8, name="x")])
        def converted(x):
            return {"y": convert(x)}

        return converted

    signatures = {name: signature(dtype) for name, dtype in DTYPES.items()}
    signatures["string"] = signature(tf.string)
    signatures["half"] = converter(lambda x: tf.cast(x, tf.float16))
    signatures["quantized"] = converter(lambda x: tf.bitcast(x, tf.qint8))

    for name, function in signatures.items():
        setattr(module, name, function)
    tf.saved_model.save(module, str(base / "1"), signatures)
    client = start_server("--model_name=m", f"--model_base_path={base}")
    client.wait_for({1: "AVAILABLE"})
    with httpx.Client(base_url=client.running.rest, timeout=60) as client.rest:
        yield client


@pytest.mark.parametrize("name", DTYPES)
def test_numbers_of_every_dtype_and_of_rank_0_are_returned(client, name):
    values = np.array([1, 0], DTYPES[name].as_numpy_dtype)
    answer = client.predict({"x": values}, name)
    assert answer.same.dtype == answer.first.dtype == values.dtype
    assert (answer.same.tolist(), answer.first.tolist()) == (values.tolist(), values.tolist()[0])
    assert answer.first.shape == ()
    assert not answer.answer.outputs["same"].tensor_content


def test_halves_are_listed_by_their_bits(client):
    output = client.predict({"x": np.array([1.5], np.float16)}, "float16").answer.outputs["first"]
    assert (output.dtype, list(output.half_val)) == (DataType.DT_HALF, [0x3E00])


def test_strings_of_rank_0_are_returned(client):
    answer = client.predict({"x": [b"text\0", b""]}, "string")
    assert (answer.same.tolist(), answer.first[()]) == ([b"text\0", b""], b"text\0")


@pytest.mark.parametrize(
    ("name", "values"), [*((name, [1, 0]) for name in JSON), ("bool", [True, False])]
)
def test_json_has_numbers_of_rank_0(client, name, values):
    body = {"signature_name": name, "inputs": values}
    answer = client.rest.post("/v1/models/m:predict", json=body)
    first = values[0]
    assert answer.json() == {"outputs": {"same": values, "first": first, "first_bytes": first}}


def test_json_has_strings_of_rank_0(client):
    body = {"signature_name": "string", "inputs": ["text"]}
    outputs = client.rest.post("/v1/models/m:predict", json=body).json()["outputs"]
    assert outputs == {"same": ["text"], "first": "text", "first_bytes": {"b64": "dGV4dA=="}}


@pytest.mark.parametrize(
    ("signature", "status", "message"),
    [
        ("half", 400, "Failed to write JSON value for tensor type: half"),
        ("float16", 501, "Conversion of JSON Value: 1 to type: half"),
        ("quantized", 501, "output y: a tensor of qint8 is not supported"),
    ],
)
def test_dtypes_that_json_has_not_are_refused(client, signature, status, message):
    body = {"signature_name": signature, "inputs": [1]}
    answer = client.rest.post("/v1/models/m:predict", json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": message})


def test_dtypes_that_the_server_cannot_send_are_unimplemented(client):
    with pytest.raises(grpc.RpcError, match="qint8 is not supported") as caught:
        client.predict({"x": np.array([1], np.int8)}, "quantized")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
