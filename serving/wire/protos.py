"""TensorFlow Serving's messages, without TensorFlow.

The classes are built from `descriptors.binpb`, which `python -m serving.descriptors` regenerates
from the installed packages. They use a descriptor pool of their own, so that a program can import
TensorFlow as well, before or after this module. A message of another pool has another class: pass
serialized bytes between the pools, not messages.

`protos.pyi` declares the classes for type checkers.
"""

from enum import IntEnum
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

POOL = DescriptorPool()
for _file in FileDescriptorSet.FromString(
    Path(__file__).with_name("descriptors.binpb").read_bytes()
).file:
    POOL.Add(_file)


def message_class(name: str) -> type[Message]:
    """Returns the class of a message by its full name, such as "tensorflow.Example"."""
    return GetMessageClass(POOL.FindMessageTypeByName(name))


def _enum(name: str) -> type[IntEnum]:
    values = POOL.FindEnumTypeByName(name).values_by_name
    return IntEnum(name.rpartition(".")[2], {key: value.number for key, value in values.items()})


DataType = _enum("tensorflow.DataType")
Example = message_class("tensorflow.Example")
SavedModel = message_class("tensorflow.SavedModel")
TensorInfo = message_class("tensorflow.TensorInfo")
TensorProto = message_class("tensorflow.TensorProto")

GetModelMetadataRequest = message_class("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = message_class("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusRequest = message_class("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = message_class("tensorflow.serving.GetModelStatusResponse")
ModelConfig = message_class("tensorflow.serving.ModelConfig")
ModelServerConfig = message_class("tensorflow.serving.ModelServerConfig")
ModelSpec = message_class("tensorflow.serving.ModelSpec")
ModelType = _enum("tensorflow.serving.ModelType")
ModelVersionStatus = message_class("tensorflow.serving.ModelVersionStatus")
PredictionLog = message_class("tensorflow.serving.PredictionLog")
PredictRequest = message_class("tensorflow.serving.PredictRequest")
PredictResponse = message_class("tensorflow.serving.PredictResponse")
ReloadConfigRequest = message_class("tensorflow.serving.ReloadConfigRequest")
ReloadConfigResponse = message_class("tensorflow.serving.ReloadConfigResponse")
SignatureDef = message_class("tensorflow.SignatureDef")
SignatureDefMap = message_class("tensorflow.serving.SignatureDefMap")
