import numpy as np
import pytest
import tensorflow as tf

from serving.server.errors import RequestError
from serving.server.models.servable import Servable
from serving.wire.protos import PredictRequest
from serving.wire.tensors import to_proto

V1 = tf.compat.v1


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A model of TensorFlow 1 whose signature declares [?, 1], and whose graph takes any shape."""
    folder = tmp_path_factory.mktemp("half") / "1"
    with tf.Graph().as_default(), V1.Session() as session:
        x = V1.placeholder(tf.float32, name="x")
        inputs, outputs = (
            V1.saved_model.build_tensor_info(x),
            V1.saved_model.build_tensor_info(x / 2),
        )
        for info in (inputs, outputs):
            info.tensor_shape.CopyFrom(tf.TensorShape([None, 1]).as_proto())
        signature = V1.saved_model.build_signature_def({"x": inputs}, {"y": outputs})
        builder = V1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    return Servable(folder)


@pytest.mark.parametrize("shape", [(), (3,), (3, 1), (2, 2, 2)])
def test_shapes_that_a_signature_does_not_declare_are_taken(half, shape):
    request = PredictRequest(inputs={"x": to_proto(np.full(shape, 3, np.float32))})
    inputs = half.check(request)
    np.testing.assert_array_equal(half.run(inputs)["y"], np.full(shape, 1.5, np.float32))
    assert half.signatures["serving_default"].inputs["x"].tensor_shape.dim[1].size == 1


def test_shapes_of_images_are_checked(tiny):
    request = PredictRequest(inputs={"images": to_proto(np.ones((2, 2), np.uint8))})
    request.model_spec.signature_name = "reconstruct"
    with pytest.raises(RequestError, match=r"must have the shape \[\?, \?, \?, 3\]; got \[2, 2\]"):
        Servable(tiny / "1").check(request)
