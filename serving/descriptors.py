"""Writes the descriptors that `serving.wire.protos` reads: `python -m serving.descriptors`

They are copied from the installed tensorflow and tensorflow-serving-api, so that clients need
neither of these packages.
"""

from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import Default

FILE: Final = Path(__file__).parent / "wire" / "descriptors.binpb"
_PROTO_PATHS: Final = (
    "tensorflow/core/example/example",
    "tensorflow/core/protobuf/saved_model",
    "tensorflow_serving/apis/model_service",
    "tensorflow_serving/apis/prediction_log",
    "tensorflow_serving/apis/prediction_service",
)


def read() -> bytes:
    """Returns a serialized FileDescriptorSet of the services, their messages and dependencies."""
    files: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        # A descriptor pool accepts a file only after the files that it imports.
        for dependency in file.dependencies:
            add(dependency)
        files[file.name] = file

    for path in _PROTO_PATHS:
        # An old protoc generated the modules of the services: they register their file in the
        # default pool and then raise AttributeError.
        with suppress(AttributeError):
            import_module(path.replace("/", ".") + "_pb2")
        add(Default().FindFileByName(f"{path}.proto"))
    descriptor_set = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(descriptor_set.file.add())
    return bytes(descriptor_set.SerializeToString(deterministic=True))


if __name__ == "__main__":
    size = FILE.write_bytes(read())
    print(f"{FILE}: {size:,} bytes")
