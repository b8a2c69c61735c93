"""The configuration files of TensorFlow Serving, which are text protos.

The tensorflow-serving-api wheel lacks some of their messages. These are declared here with the
names and numbers of the .proto files in tensorflow/serving, so that both servers read a file.
"""

from pathlib import Path
from typing import TypeVar

from google.protobuf import descriptor_pb2, text_format
from google.protobuf.message import Message

from keras_ae.errors import ConfigurationError
from serving.server.errors import invalid
from serving.server.models import versions
from serving.wire.protos import POOL, ModelServerConfig, ModelType, message_class

_INT64 = ".google.protobuf.Int64Value"
_STRING = ".google.protobuf.StringValue"
_Type = descriptor_pb2.FieldDescriptorProto

# Message -> fields (name, number, type); a type with a dot is a message, [...] is repeated.
_MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "BatchingParameters": (
        ("max_batch_size", 1, _INT64),
        ("batch_timeout_micros", 2, _INT64),
        ("max_enqueued_batches", 3, _INT64),
        ("num_batch_threads", 4, _INT64),
        ("thread_pool_name", 5, _STRING),
        ("allowed_batch_sizes", 6, "[int64]"),
        ("pad_variable_length_inputs", 7, "bool"),
    ),
    "PrometheusConfig": (("enable", 1, "bool"), ("path", 2, "string")),
    "MonitoringConfig": (("prometheus_config", 1, ".tensorflow.serving.PrometheusConfig"),),
    "SSLConfig": (
        ("server_key", 1, "string"),
        ("server_cert", 2, "string"),
        ("custom_ca", 3, "string"),
        ("client_verify", 4, "bool"),
    ),
}


def _build_classes() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="keras_ae/serving/config.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            field = message.field.add(name=field_name, number=number, label=_Type.LABEL_OPTIONAL)
            if kind.startswith("."):
                field.type, field.type_name = _Type.TYPE_MESSAGE, kind
            else:
                field.type = _Type.Type.Value(f"TYPE_{kind.strip('[]').upper()}")
            if kind.startswith("["):
                field.label = _Type.LABEL_REPEATED
    POOL.Add(file)
    return {name: message_class(f"{file.package}.{name}") for name in _MESSAGES}


_CLASSES = _build_classes()
BatchingParameters = _CLASSES["BatchingParameters"]
MonitoringConfig = _CLASSES["MonitoringConfig"]
SSLConfig = _CLASSES["SSLConfig"]
PLATFORM = "tensorflow"

M = TypeVar("M", bound=Message)


def read(path: Path, message_type: type[M]) -> M:
    """Reads a text proto, such as of `BatchingParameters`; raises ConfigurationError."""
    try:
        text = path.read_text(encoding="utf-8")
        message: M = text_format.Parse(text, message_type(), descriptor_pool=POOL)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    except text_format.ParseError as error:
        name = message_type.DESCRIPTOR.full_name
        raise ConfigurationError(f"{path}: Error parsing text-format {name}: {error}") from error
    return message


def check(server_config: ModelServerConfig) -> None:
    """Raises RequestError if a ModelServerConfig has no list of models, or one cannot be served."""
    if server_config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported. Only ModelConfigList is currently supported"
        )
    names: set[str] = set()
    for model in server_config.model_config_list.config:
        if not model.name:
            raise invalid("a model of the config list has no name")
        if model.name in names:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        names.add(model.name)
        versions.local_path(model.name, model.base_path)
        if model.model_type and model.model_platform:
            raise invalid(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                f"ModelServerConfig::model_platform, model name is {model.name}"
            )
        is_tensorflow = model.model_type == ModelType.TENSORFLOW
        platform = model.model_platform or (PLATFORM if is_tensorflow else "")
        if platform != PLATFORM:
            raise invalid(
                f"Model {model.name} requests unsupported platform {platform!r}: "
                f'expected model_platform: "{PLATFORM}"'
            )
