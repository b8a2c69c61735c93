"""TensorFlow Serving's messages and stubs, imported without starting TensorFlow's runtime.

The generated modules need `tensorflow.core`, whose package runs all of TensorFlow when it is
imported: 13 s and 840 MB. Its message modules need nothing of that.
"""

import importlib
import importlib.util
import sys
import types
from typing import Any

from keras_ae.errors import ConfigurationError


def _import_all(*names: str) -> list[Any]:
    if "tensorflow" in sys.modules:
        return [importlib.import_module(name) for name in names]
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.submodule_search_locations is None:
        raise ConfigurationError(
            "TensorFlow's message definitions are missing: install tensorflow-serving-api"
        )
    bare = types.ModuleType("tensorflow")
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = bare
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        # Whoever imports TensorFlow later gets the real one.
        del sys.modules["tensorflow"]


(
    example_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    model_server_config_pb2,
    tensor_pb2,
    types_pb2,
    meta_graph_pb2,
    saved_model_pb2,
) = _import_all(
    "tensorflow.core.example.example_pb2",
    "tensorflow_serving.apis.get_model_metadata_pb2",
    "tensorflow_serving.apis.get_model_status_pb2",
    "tensorflow_serving.apis.model_management_pb2",
    "tensorflow_serving.apis.model_pb2",
    "tensorflow_serving.apis.model_service_pb2_grpc",
    "tensorflow_serving.apis.predict_pb2",
    "tensorflow_serving.apis.prediction_log_pb2",
    "tensorflow_serving.apis.prediction_service_pb2_grpc",
    "tensorflow_serving.config.model_server_config_pb2",
    "tensorflow.core.framework.tensor_pb2",
    "tensorflow.core.framework.types_pb2",
    "tensorflow.core.protobuf.meta_graph_pb2",
    "tensorflow.core.protobuf.saved_model_pb2",
)
