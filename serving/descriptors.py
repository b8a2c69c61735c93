"""Writes the descriptors that `serving.wire.protos` reads: `python -m serving.descriptors`

They are those of the installed tensorflow and tensorflow-serving-api, which clients need not have.
"""

import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import Default

FILE: Final = Path(__file__).parent / "wire" / "descriptors.binpb"
_ROOTS: Final = (
    "tensorflow/core/example/example",
    "tensorflow/core/protobuf/saved_model",
    "tensorflow_serving/apis/model_service",
    "tensorflow_serving/apis/prediction_log",
    "tensorflow_serving/apis/prediction_service",
)


def main() -> int:
    """Writes the file; returns the exit status."""
    FILE.write_bytes(read())
    print(f"{FILE}: {FILE.stat().st_size:,} bytes")
    return 0


def read() -> bytes:
    """A FileDescriptorSet of the services, the messages and all that they refer to."""
    found: dict[str, Any] = {}

    def add(file: Any) -> None:
        # A pool takes a file after those that it refers to.
        for dependency in file.dependencies:
            add(dependency)
        found[file.name] = file

    for root in _ROOTS:
        # The modules of the services are of an old protoc: they describe their file, then fail.
        with suppress(AttributeError):
            import_module(root.replace("/", ".") + "_pb2")
        add(Default().FindFileByName(f"{root}.proto"))
    described = FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(described.file.add())
    return described.SerializeToString(deterministic=True)


if __name__ == "__main__":
    sys.exit(main())
