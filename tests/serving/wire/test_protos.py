import subprocess
import sys

import pytest

from serving import descriptors

IMPORT_CLIENT = """
from serving.client.blocking import ReconstructionClient
from serving.wire.protos import PredictRequest
from serving.wire.tensors import to_array, to_proto
"""
IMPORT_TENSORFLOW = """
import tensorflow as tf
from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc
"""
EXCHANGE = """
import numpy as np
pixels = np.arange(6, dtype=np.uint8)
ours = PredictRequest(inputs={"images": to_proto(pixels)}, output_filter=["psnr"])
ours.model_spec.name, ours.model_spec.version.value = "keras_ae", 7
theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
assert theirs.model_spec.version.value == 7
assert tf.make_ndarray(theirs.inputs["images"]).tolist() == pixels.tolist()
theirs.inputs["images"].CopyFrom(tf.make_tensor_proto(2 * pixels))
again = PredictRequest.FromString(theirs.SerializeToString())
assert to_array(again.inputs["images"]).tolist() == (2 * pixels).tolist()
assert again.model_spec == ours.model_spec
"""


def test_the_descriptors_are_those_of_the_installed_packages():
    is_current = descriptors.read() == descriptors.FILE.read_bytes()
    assert is_current, "regenerate them: python -m serving.descriptors"


@pytest.mark.parametrize(
    "imports",
    [IMPORT_CLIENT + IMPORT_TENSORFLOW, IMPORT_TENSORFLOW + IMPORT_CLIENT],
    ids=["before", "after"],
)
def test_the_client_is_imported_before_or_after_tensorflow_and_they_exchange_bytes(imports):
    program = [sys.executable, "-c", imports + EXCHANGE]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
