"""The behaviour of TensorFlow Serving that clients rely on, over a real channel."""

import gc
import os
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from serving.server.frontends import rpc
from serving.wire import services
from serving.wire.protos import (
    POOL,
    DataType,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    ModelServerConfig,
    PredictRequest,
    SignatureDefMap,
    TensorProto,
)
from serving.wire.tensors import to_array
from tests.serving.servers import PIXELS, SECONDS, wait_until

CODE = grpc.StatusCode


@pytest.fixture
def client(real_server):
    return real_server


def assert_refused(call, code, *messages):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() == code, caught.value.details()
    for message in messages:
        assert message in caught.value.details()
    assert "Traceback" not in caught.value.details()


# Successful requests


def test_predictions_equal_those_of_the_model_in_process(client, in_process):
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 17, 3), np.uint8)
    answer = client.predict({"images": images}, "reconstruct", name="keras_ae")
    expected = in_process.signatures["reconstruct"](images=images)
    assert set(answer.answer.outputs) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(getattr(answer, name), value.numpy())


def test_encoded_images_need_no_signature_name(client):
    answer = client.predict({"image_bytes": [b"text", b""]}, "", name="keras_ae")
    assert answer.answer.model_spec.signature_name == "serving_default"
    assert all(answer.status.tolist())


def test_the_response_names_model_signature_and_version(client):
    spec = client.predict({"images": PIXELS}, version=1).answer.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("m", "reconstruct", 1)


@pytest.mark.parametrize(
    ("spec", "version"),
    [({}, 2), ({"version": 1}, 1), ({"label": "stable"}, 1), ({"label": "canary"}, 2)],
)
def test_versions_are_selected_by_number_label_or_newest(client, spec, version):
    answer = client.predict({"images": PIXELS}, **spec)
    assert answer.version == version
    np.testing.assert_array_equal(answer.reconstructions, PIXELS + version)


def test_only_requested_outputs_are_sent(client):
    answer = client.predict({"images": PIXELS}, outputs=["rows"]).answer
    assert set(answer.outputs) == {"rows"}


def test_outputs_fill_the_field_of_their_type(client):
    outputs = client.predict({"images": PIXELS}, version=1).answer.outputs
    assert list(outputs["reconstructions"].int_val) == (PIXELS + 1).ravel().tolist()
    assert list(outputs["rows"].int_val) == [1]
    answer = client.predict({"image_bytes": [b"text"]}, "", name="keras_ae").answer
    assert np.isnan(answer.outputs["psnr"].float_val[0])
    assert answer.outputs["status"].string_val[0].startswith(b"not a PNG")
    assert not any(output.tensor_content for output in answer.outputs.values())


def test_a_flag_fills_tensor_content(start_server, tiny):
    named = (f"--model_base_path={tiny}", "--model_name=m")
    client = start_server(*named, "--enable_serialization_as_tensor_content=true")
    client.wait_for({3: "AVAILABLE"})
    output = client.predict({"images": PIXELS}).answer.outputs["reconstructions"]
    assert (output.tensor_content, output.int_val) == ((PIXELS + 3).tobytes(), [])


def test_metadata_has_every_signature(client):
    answer = client.metadata("keras_ae")
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("keras_ae", 1)
    found = SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(found)
    names = {"serving_default", "reconstruct", "encode", "decode", "score"}
    assert names <= set(found.signature_def)
    images = found.signature_def["reconstruct"].inputs["images"]
    assert images.dtype == DataType.DT_UINT8
    assert [dim.size for dim in images.tensor_shape.dim] == [-1, -1, -1, 3]


def test_status_lists_all_versions_or_the_requested_one(client):
    assert client.status() == {1: "AVAILABLE", 2: "AVAILABLE"}
    assert client.status(version=1) == {1: "AVAILABLE"}


@pytest.mark.parametrize("label", ["stable", "unknown"])
def test_status_ignores_labels(client, label):
    assert client.status(label=label) == {1: "AVAILABLE", 2: "AVAILABLE"}


# Refusals


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"name": ""}, CODE.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        ({"name": "z"}, CODE.NOT_FOUND, "Servable not found for request: Latest(z)"),
        ({"version": 9}, CODE.NOT_FOUND, "Servable not found for request: Specific(m, 9)"),
        ({"label": "L"}, CODE.INVALID_ARGUMENT, "Unrecognized servable version label: L"),
        (
            {"signature": "S"},
            CODE.FAILED_PRECONDITION,
            'Serving signature key "S" not found.',
        ),
        (
            {"signature": ""},
            CODE.FAILED_PRECONDITION,
            'Serving signature key "serving_default" not found.',
        ),
        (
            {"inputs": {}},
            CODE.INVALID_ARGUMENT,
            "input size does not match signature: 0!=1 len({}) != len({images}). "
            "Sent extra: {}. Missing but required: {images}.",
        ),
        (
            {"inputs": {"images": PIXELS, "a": PIXELS}},
            CODE.INVALID_ARGUMENT,
            "input size does not match signature: 2!=1 len({a,images}) != len({images}). "
            "Sent extra: {a}. Missing but required: {}.",
        ),
        ({"inputs": {"image": PIXELS}}, CODE.INVALID_ARGUMENT, "images"),
        (
            {"inputs": {"images": PIXELS.astype(np.float32)}},
            CODE.INVALID_ARGUMENT,
            "input images must be uint8; got float",
        ),
        (
            {"inputs": {"images": [b"text"]}},
            CODE.INVALID_ARGUMENT,
            "input images must be uint8; got string",
        ),
        (
            {"inputs": {"images": PIXELS[0]}},
            CODE.INVALID_ARGUMENT,
            "input images must have the shape [?, ?, ?, 3]; got [4, 4, 3]",
        ),
        (
            {"inputs": {"images": PIXELS[..., :1]}},
            CODE.INVALID_ARGUMENT,
            "input images must have the shape [?, ?, ?, 3]; got [1, 4, 4, 1]",
        ),
        (
            {"outputs": ["Z"]},
            CODE.INVALID_ARGUMENT,
            "output tensor alias not found in signature: Z",
        ),
        (
            {"outputs": ["rows", "rows"]},
            CODE.INVALID_ARGUMENT,
            "duplicate output tensor alias: rows",
        ),
    ],
)
def test_predict_refuses_invalid_requests(client, changes, code, message):
    arguments = {"inputs": {"images": PIXELS}, "signature": "reconstruct", **changes}
    request = client.request(**arguments)
    assert_refused(lambda: client.prediction.Predict(request, timeout=SECONDS), code, message)


@pytest.mark.parametrize("method", ["Predict", "GetModelMetadata"])
def test_a_model_spec_is_needed(client, method):
    kind = {
        "Predict": PredictRequest,
        "GetModelMetadata": GetModelMetadataRequest,
    }[method]
    call = getattr(client.prediction, method)
    assert_refused(lambda: call(kind()), CODE.INVALID_ARGUMENT, "Missing ModelSpec")
    status = GetModelStatusRequest()
    assert_refused(lambda: client.model.GetModelStatus(status), CODE.INVALID_ARGUMENT, "ModelSpec")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((), "GetModelMetadataRequest must specify at least one metadata_field"),
        (("F",), "Metadata field F is not supported"),
    ],
)
def test_metadata_refuses(client, fields, message):
    assert_refused(lambda: client.metadata(fields=fields), CODE.INVALID_ARGUMENT, message)


def test_metadata_of_unknown_models(client):
    assert_refused(lambda: client.metadata("z"), CODE.NOT_FOUND, "Latest(z)")


def test_status_of_unknown_models_and_versions(client):
    message = "Could not find any versions of model z"
    assert_refused(lambda: client.status("z"), CODE.NOT_FOUND, message)
    message = "Could not find version 9 of model m"
    assert_refused(lambda: client.status(version=9), CODE.NOT_FOUND, message)


DEFAULT = {"model_spec": {"name": "keras_ae"}}


@pytest.mark.parametrize(
    ("method", "fields", "code", "message"),
    [
        ("Classify", {}, CODE.INVALID_ARGUMENT, "Missing ModelSpec"),
        ("Classify", {"model_spec": {"name": "z"}}, CODE.NOT_FOUND, "Latest(z)"),
        (
            "Classify",
            {"model_spec": {"name": "m"}},
            CODE.INVALID_ARGUMENT,
            "No signature was found with the name: serving_default",
        ),
        (
            "Classify",
            DEFAULT,
            CODE.INVALID_ARGUMENT,
            "Expected one or two output Tensors, found 7",
        ),
        (
            "Classify",
            {"model_spec": {"name": "m", "signature_name": "count"}},
            CODE.INVALID_ARGUMENT,
            "No classification inputs found in SignatureDef: inputs {",
        ),
        ("Regress", DEFAULT, CODE.INVALID_ARGUMENT, "Expected one output Tensor."),
        ("MultiInference", {}, CODE.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (
            "MultiInference",
            {"tasks": [{**DEFAULT, "method_name": "tensorflow/serving/regress"}]},
            CODE.INVALID_ARGUMENT,
            "Expected one output Tensor.",
        ),
        (
            "MultiInference",
            {"tasks": [{**DEFAULT, "method_name": "tensorflow/serving/predict"}]},
            CODE.UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        (
            "MultiInference",
            {"tasks": [{"model_spec": {"name": "m", "signature_name": "S"}}]},
            CODE.INVALID_ARGUMENT,
            "Requested signature not found in model graph: S",
        ),
    ],
)
def test_signatures_of_another_kind_are_refused(client, method, fields, code, message):
    descriptor = POOL.FindServiceByName(services.PREDICTION).methods_by_name[method]
    request = json_format.ParseDict(fields, GetMessageClass(descriptor.input_type)())
    call = getattr(client.prediction, method)
    assert_refused(lambda: call(request, timeout=SECONDS), code, message)


def test_signatures_of_their_kind_are_unimplemented(start_server, tmp_path):
    class Scorer(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="inputs")])
        def score(self, inputs):
            return {"scores": tf.zeros_like(inputs, tf.float32)}

    model = Scorer()
    tf.saved_model.save(model, str(tmp_path / "1"), {"serving_default": model.score})
    client = start_server("--model_name=m", f"--model_base_path={tmp_path}")
    client.wait_for({1: "AVAILABLE"})
    path = "/tensorflow.serving.PredictionService/Classify"
    call = client.channel.unary_unary(path, PredictRequest.SerializeToString)
    request = PredictRequest(model_spec={"name": "m"})
    assert_refused(lambda: call(request), CODE.UNIMPLEMENTED, "call Predict instead")
    body = {"examples": [{"x": 1}]}
    answer = httpx.post(f"{client.running.rest}/v1/models/m:classify", json=body)
    assert answer.status_code == 501


def config(text):
    from google.protobuf import text_format

    return text_format.Parse(text, ModelServerConfig())


ONE = 'config {{ name: "m" base_path: "{base}" model_platform: "{platform}" }}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Only ModelConfigList is currently supported"),
        ("custom_model_config {}", "Only ModelConfigList is currently supported"),
        (
            f"model_config_list {{ {ONE} {ONE} }}",
            "Illegal to list model m multiple times in config list",
        ),
        (
            'model_config_list { config { name: "m" base_path: "a/b" } }',
            "Expected model m to have an absolute path or URI; got base_path()=a/b",
        ),
        (
            'model_config_list { config { name: "m" base_path: "gs://a" } }',
            "got a gs:// URI, which this server cannot read",
        ),
        ('model_config_list { config { base_path: "/a" } }', "has no name"),
        (
            'model_config_list { config { name: "m" base_path: "/a" model_platform: "tensorflow" '
            "model_type: TENSORFLOW } }",
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform, model name is m",
        ),
        (
            'model_config_list { config { name: "m" base_path: "/a" model_platform: "x" } }',
            "Model m requests unsupported platform 'x'",
        ),
    ],
)
def test_reload_refuses_and_changes_nothing(client, tiny, text, message):
    text = text.replace("{base}", str(tiny)).replace("{platform}", "tensorflow")
    text = text.replace("{{", "{").replace("}}", "}")
    assert_refused(lambda: client.reload(config(text)), CODE.INVALID_ARGUMENT, message)
    assert client.status() == {1: "AVAILABLE", 2: "AVAILABLE"}
    assert client.predict({"images": PIXELS}, label="stable").version == 1


# Hostile tensors


def tensor(dtype=DataType.DT_UINT8, sizes=(1, 4, 4, 3), **values):
    proto = TensorProto(dtype=dtype, **values)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


HOSTILE = {
    "short content": (tensor(tensor_content=b"\0" * 47), "tensor parsing error: images"),
    "long content": (tensor(tensor_content=b"\0" * 49), "tensor parsing error: images"),
    "no values": (tensor(), "tensor parsing error: images"),
    "too many values": (tensor(int_val=[1] * 49), "tensor parsing error: images"),
    "negative size": (tensor(sizes=(1, -4, 4, 3), int_val=[1]), "tensor parsing error: images"),
    "unknown rank": (
        TensorProto(dtype=DataType.DT_UINT8, tensor_shape={"unknown_rank": True}, int_val=[1]),
        "tensor parsing error: images",
    ),
    "overflow": (tensor(sizes=(2**62, 2**62, 4, 3), int_val=[1]), "pixels"),
    "broadcast": (tensor(sizes=(1, 2**20, 2**20, 3), int_val=[1]), "64,000,000 are allowed"),
    "many images": (tensor(sizes=(1001, 256, 256, 3), int_val=[1]), "send fewer at once"),
    "rank 0": (tensor(sizes=(), int_val=[1]), "must have the shape"),
    "rank 1": (tensor(sizes=(3,), int_val=[1]), "must have the shape"),
    "rank 3": (tensor(sizes=(4, 4, 3), int_val=[1]), "must have the shape"),
    "rank 5": (tensor(sizes=(1, 1, 4, 4, 3), int_val=[1]), "must have the shape"),
    "H = 0": (tensor(sizes=(1, 0, 4, 3)), "is empty"),
    "N = 0": (tensor(sizes=(0, 4, 4, 3)), "is empty"),
    "2 channels": (tensor(sizes=(1, 4, 4, 2), int_val=[1]), "must have the shape"),
    "no dtype": (tensor(dtype=DataType.DT_INVALID), "tensor parsing error: images"),
    "unknown dtype": (tensor(dtype=77), "must be uint8; got type 77"),
    "resource": (tensor(dtype=DataType.DT_RESOURCE), "must be uint8; got resource"),
}


@pytest.mark.parametrize("signature", ["reconstruct", "encode"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tensors_are_refused_and_the_next_request_succeeds(client, signature, name):
    proto, message = HOSTILE[name]
    request = client.request({"images": proto}, "keras_ae", signature)
    assert_refused(lambda: client.prediction.Predict(request), CODE.INVALID_ARGUMENT, message)
    assert client.predict({"images": PIXELS}, "encode", name="keras_ae").latents.shape[0] == 1


STRINGS = {
    "one string for many": (tensor(DataType.DT_STRING, (100,), string_val=[b""]), "got 1"),
    "no strings": (tensor(DataType.DT_STRING, (1,)), "got 0"),
    "strings as content": (
        tensor(DataType.DT_STRING, (1,), tensor_content=b"a"),
        "the strings need 98 bytes; got 1",
    ),
    "a huge shape": (
        tensor(DataType.DT_STRING, (100_000_000,), string_val=[b""]),
        "has 100,000,000 strings; at most 1,024 are allowed: send fewer at once",
    ),
    "too many strings": (
        tensor(DataType.DT_STRING, (1025,), string_val=[b""] * 1025),
        "has 1,025 strings; at most 1,024 are allowed: send fewer at once",
    ),
}


@pytest.mark.parametrize(
    ("signature", "alias"), [("serving_default", "image_bytes"), ("score", "examples")]
)
@pytest.mark.parametrize("name", STRINGS)
def test_hostile_strings_are_refused(client, signature, alias, name):
    proto, message = STRINGS[name]
    request = client.request({alias: proto}, "keras_ae", signature)
    assert_refused(lambda: client.prediction.Predict(request), CODE.INVALID_ARGUMENT, message)


def test_as_many_strings_as_allowed_are_answered(client):
    answer = client.predict({"image_bytes": [b""] * 1024}, "", name="keras_ae", outputs=["status"])
    assert answer.status.shape == (1024,)


@pytest.mark.parametrize("letter", ["図", "%", "\n", " "])
def test_long_names_do_not_hide_the_reason_of_a_refusal(client, letter):
    names = [f"{i:02}" + letter * 98 for i in range(30)]
    request = client.request(dict.fromkeys(names, PIXELS), signature="reconstruct")
    message = "input size does not match signature: 30!=1"
    assert_refused(lambda: client.prediction.Predict(request), CODE.INVALID_ARGUMENT, message)


def test_latents_of_more_pixels_than_allowed_are_refused(client):
    proto = tensor(DataType.DT_FLOAT, (1, 1001, 1000, 8), float_val=[0.5])
    request = client.request({"latents": proto}, "keras_ae", "decode")
    message = "64,064,000 pixels; at most 64,000,000"
    assert_refused(lambda: client.prediction.Predict(request), CODE.INVALID_ARGUMENT, message)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_latents_with_nan_or_infinity_are_decoded(client, value):
    latents = np.full((1, 2, 3, 8), value, np.float32)
    answer = client.predict({"latents": latents}, "decode", name="keras_ae")
    assert answer.images.shape == (1, 16, 24, 3)
    assert client.predict({"images": PIXELS}).version == 2


def test_the_last_value_is_repeated_if_there_are_fewer_than_needed(client):
    answer = client.predict({"images": tensor(int_val=[5, 7])})
    assert answer.reconstructions.ravel().tolist() == [7, *[9] * 47]


def test_strings_are_read_from_tensor_content(client):
    proto = tensor(DataType.DT_STRING, (2,), tensor_content=b"\x04\x00text")
    answer = client.predict({"image_bytes": proto}, "", name="keras_ae")
    same = client.predict({"image_bytes": [b"text", b""]}, "", name="keras_ae")
    assert answer.status.tolist() == same.status.tolist()


def test_broken_examples_are_refused(client):
    request = client.request({"examples": [b"\xff\xff"]}, "keras_ae", "score")
    message = "Could not parse example input"
    assert_refused(lambda: client.prediction.Predict(request), CODE.INVALID_ARGUMENT, message)
    assert client.predict({"images": PIXELS}).version == 2


def test_an_error_of_the_model_is_one_line(client):
    request = client.request({"values": np.array([-1], np.int32)}, signature="positive")
    with pytest.raises(grpc.RpcError, match="not positive") as caught:
        client.prediction.Predict(request)
    assert caught.value.code() == CODE.INVALID_ARGUMENT
    assert "\n" not in caught.value.details()
    assert ".py" not in caught.value.details()


def test_a_model_name_of_a_megabyte_gets_an_error(client):
    request = client.request({"images": PIXELS}, "x" * 2**20)
    assert_refused(lambda: client.prediction.Predict(request), CODE.NOT_FOUND, "Servable not found")


def test_messages_at_the_limit_pass_and_larger_ones_do_not(start_server, tiny):
    client = start_server(f"--model_base_path={tiny}", "--model_name=m", "--max_message_bytes=9999")
    client.wait_for({3: "AVAILABLE"})
    small = client.request({"images": PIXELS}, signature="reconstruct")
    padding = 9999 - small.ByteSize() - 2
    small.model_spec.version_label = "x" * padding
    while small.ByteSize() > 9999:
        small.model_spec.version_label = small.model_spec.version_label[1:]
    assert small.ByteSize() == 9999
    assert_refused(lambda: client.prediction.Predict(small), CODE.INVALID_ARGUMENT, "label")
    small.model_spec.version_label += "x"
    assert_refused(lambda: client.prediction.Predict(small), CODE.RESOURCE_EXHAUSTED)
    assert client.predict({"images": PIXELS}).version == 3


@pytest.mark.parametrize("flags", [(), ("--enable_batching",)], ids=["alone", "batched"])
def test_a_refused_request_is_freed_at_once(start_server, tiny, flags):
    client = start_server(f"--model_base_path={tiny}", "--model_name=m", *flags)
    client.wait_for({3: "AVAILABLE"})
    values = {"values": np.array([-1], np.int32)}
    refused = [
        client.request({"images": PIXELS}, "z"),
        client.request({"images": PIXELS}, signature="S"),
        client.request({"images": PIXELS[0]}, signature="reconstruct"),
        client.request(values, signature="positive"),
    ]

    def count():
        return sum(type(item) is PredictRequest for item in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = count()
        for request in refused:
            with pytest.raises(grpc.RpcError):
                client.prediction.Predict(request, timeout=SECONDS)
        wait_until(lambda: count() == before)
    finally:
        gc.enable()


def test_bytes_that_are_no_request_are_refused(client):
    call = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError, match="not a PredictRequest") as caught:
        call(b"\xff" * 100, timeout=SECONDS)
    assert caught.value.code() == CODE.INTERNAL
    assert client.predict({"images": PIXELS}).version == 2


@pytest.mark.parametrize("side", [1, 2, 9])
def test_the_smallest_images_are_answered(client, side):
    images = np.full((1, side, 1, 3), 100, np.uint8)
    answer = client.predict({"images": images}, "reconstruct", name="keras_ae")
    assert answer.reconstructions.shape == images.shape


def test_an_image_of_4096_by_4096_is_answered(client):
    row = np.linspace(0, 255, 4096).astype(np.uint8)
    images = np.broadcast_to(row[:, None], (1, 4096, 4096, 3))
    answer = client.predict({"images": images}, name="keras_ae", outputs=["reconstructions", "mse"])
    assert answer.reconstructions.shape == images.shape
    assert answer.mse[0] < 0.01


# Health and reflection


def test_health_is_serving_while_all_models_are_available(client, start_server, publish):
    def health(of, service=""):
        stub = health_pb2_grpc.HealthStub(of.channel)
        return stub.Check(health_pb2.HealthCheckRequest(service=service)).status

    serving = health_pb2.HealthCheckResponse.SERVING
    assert health(client) == health(client, "tensorflow.serving.PredictionService") == serving
    folder = publish(1)
    new_client = start_server(f"--model_base_path={publish.base}", "--model_name=m")
    watch = health_pb2_grpc.HealthStub(new_client.channel).Watch(
        health_pb2.HealthCheckRequest(), timeout=SECONDS
    )
    assert next(watch).status == serving
    folder.rename(folder.with_name("away"))
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    publish(1)
    assert next(watch).status == serving
    watch.cancel()
    assert new_client.predict({"images": PIXELS}).version == 1


def test_reflection_lists_and_describes_the_services(client):
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    [answer] = stub.ServerReflectionInfo(iter([request]), timeout=SECONDS)
    names = {service.name for service in answer.list_services_response.service}
    assert {
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.health.v1.Health",
    } <= names
    for name in names:
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
        [answer] = stub.ServerReflectionInfo(iter([request]), timeout=SECONDS)
        described = answer.file_descriptor_response.file_descriptor_proto
        assert any(name.rpartition(".")[2].encode() in file for file in described)


def test_reflection_is_enough_to_call_a_method(client):
    """A client without the messages of TensorFlow Serving, such as grpcurl, can call Predict."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(client.channel))
    service = pool.FindServiceByName(services.PREDICTION)
    method = service.methods_by_name["Predict"]
    call = client.channel.unary_unary(
        f"/{service.full_name}/{method.name}",
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    tensor = {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": 1}]}, "string_val": ["YQ=="]}
    fields = {"model_spec": {"name": "keras_ae"}, "inputs": {"image_bytes": tensor}}
    response = call(json_format.ParseDict(fields, GetMessageClass(method.input_type)()))
    assert response.outputs["status"].string_val[0].startswith(b"not a PNG")


@pytest.mark.parametrize(
    ("symbol", "is_known"),
    [
        ("tensorflow.serving.PredictionService.Predict", True),
        ("tensorflow.serving.ModelService.GetModelStatus", True),
        ("grpc.health.v1.Health.Check", True),
        ("tensorflow.serving.PredictRequest.model_spec", True),
        ("tensorflow.serving.PredictionService.Nothing", False),
        ("tensorflow.Nothing", False),
        ("nothing", False),
    ],
)
def test_reflection_finds_methods_and_fields(client, symbol, is_known):
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
    [answer] = stub.ServerReflectionInfo(iter([request]), timeout=SECONDS)
    assert answer.HasField("file_descriptor_response") == is_known
    assert is_known or answer.error_response.error_code == CODE.NOT_FOUND.value[0]


# Deadlines


@pytest.mark.parametrize("batching", [(), ("--enable_batching",)])
@pytest.mark.parametrize("protocol", ["gRPC", "REST"])
def test_an_expired_deadline_stops_the_work(start_server, tiny, batching, protocol):
    """As many endless requests as threads leave the model to the next one."""
    named = ("--model_name=m", f"--model_base_path={tiny}", "--rest_api_timeout_in_ms=500")
    client = start_server(*named, *batching)
    steps = np.array([2**31 - 1], np.int32)
    count = 2 * (os.cpu_count() or 1)
    if protocol == "gRPC":
        request = client.request({"steps": steps}, signature="count")
        calls = [client.prediction.Predict.future(request, timeout=0.5) for _ in range(count)]
        assert {call.exception(60).code() for call in calls} == {CODE.DEADLINE_EXCEEDED}
    else:
        body = {"signature_name": "count", "inputs": steps.tolist()}
        url = f"{client.running.rest}/v1/models/m:predict"
        with ThreadPoolExecutor(count) as pool:
            answers = list(pool.map(lambda _: httpx.post(url, json=body, timeout=60), range(count)))
        assert {answer.status_code for answer in answers} == {504}
    started = time.monotonic()
    assert client.predict({"images": PIXELS}).version == 3
    assert time.monotonic() - started < 1
    assert client.predict({"steps": np.array([9], np.int32)}, "count").total.tolist() == [12]


def test_the_request_of_a_rest_client_that_hangs_up_stops(start_server, tiny):
    client = start_server("--model_name=m", f"--model_base_path={tiny}")
    body = {"signature_name": "count", "inputs": [2**30]}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{client.running.rest}/v1/models/m:predict", json=body, timeout=0.3)
    (version,) = client.running.server.manager._models["m"].available
    wait_until(lambda: not version.uses)


@pytest.mark.parametrize("batching", [(), ("--enable_batching",)])
def test_small_images_overtake_large_ones(start_server, base_path, png, batching):
    client = start_server("--model_name=m", f"--model_base_path={base_path}", *batching)
    large, small = (
        client.request({"image_bytes": [png(np.zeros((side, side, 3), np.uint8))]})
        for side in (2100, 16)
    )
    client.prediction.Predict(small, timeout=60)
    count = 2 * (os.cpu_count() or 1)
    calls = [client.prediction.Predict.future(large, timeout=60) for _ in range(count)]
    # Each as a request and as an operation.
    wait_until(lambda: client.running.server.manager._models["m"].available[0].uses == 2 * count)
    for _ in range(3):
        client.prediction.Predict(small, timeout=60)
    assert not all(call.done() for call in calls)
    for call in calls:
        call.cancel()


def test_calls_beyond_the_limit_are_refused_and_can_be_retried(start_server, tiny, monkeypatch):
    monkeypatch.setattr(rpc, "MAX_CALLS", 2)
    client = start_server("--model_name=m", f"--model_base_path={tiny}")
    slow = client.request({"steps": np.array([2**30], np.int32)}, signature="count")
    calls = [client.prediction.Predict.future(slow, timeout=60) for _ in range(3)]
    wait_until(lambda: any(call.done() for call in calls))
    (refused,) = (call for call in calls if call.done())
    assert refused.code() == CODE.UNAVAILABLE
    assert refused.details() == "2 requests are in flight: try again later"
    for call in calls:
        call.cancel()
    wait_until(lambda: not client.running.server._calls._count)
    assert client.predict({"images": PIXELS}).version == 3


def test_cancelled_requests_do_not_block_later_ones(client):
    slow = client.request({"steps": np.array([20_000], np.int32)}, signature="count")
    calls = [client.prediction.Predict.future(slow) for _ in range(50)]
    for call in calls:
        call.cancel()
    assert client.predict({"images": PIXELS}).version == 2
    with pytest.raises(grpc.RpcError) as caught:
        client.prediction.Predict(slow, timeout=0.001)
    assert caught.value.code() == CODE.DEADLINE_EXCEEDED
    answer = client.predict({"steps": np.array([5], np.int32)}, "count")
    assert answer.total.tolist() == [7]


def test_concurrent_requests_get_their_own_results(client):
    stub = services.stub(services.PREDICTION, client.channel)
    values = list(range(40))
    calls = [
        stub.Predict.future(
            client.request({"images": np.full((1, 4, 4, 3), v, np.uint8)}, signature="reconstruct")
        )
        for v in values
    ]
    answers = [to_array(call.result(SECONDS).outputs["reconstructions"]) for call in calls]
    assert [int(answer.max()) for answer in answers] == [v + 2 for v in values]
