"""What the gRPC and REST transports share: requests that are independent of the protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from google.protobuf.message import Message

from ...wire.protos import ModelVersionStatus, TensorInfo
from ...wire.tensors import dtype_name
from .. import results

PREDICT, METADATA, STATUS = "predict", "metadata", "status"
_NUMPY_NAMES = {"float": "float32", "double": "float64"}


@dataclass(frozen=True)
class Call:
    """A request, independent of the protocol.

    Attributes:
        kind: PREDICT, whose result is a dictionary of arrays, strings as object arrays of bytes;
            METADATA, whose result is a Metadata; or STATUS, whose result is a list of
            VersionStatus.
        signature: name of the signature of a PREDICT call.
        inputs: inputs of a PREDICT call: name -> array or list of byte strings.
    """

    kind: str
    signature: str = ""
    inputs: dict[str, np.ndarray | Sequence[bytes]] = field(default_factory=dict)


class Model(NamedTuple):
    """A model on a server; its newest version if neither a version nor a label is given."""

    name: str
    version: int | None = None
    label: str | None = None


class Transport(Protocol):
    """A thread-safe connection to a server."""

    def send(self, call: Call, timeout: float) -> Any:
        """Sends a call and returns its result, see `Call.kind`.

        Args:
            call: the request.
            timeout: seconds to wait for the response at most.

        Raises:
            TransportError: if there is no response, or it is an error or cannot be read.
        """

    def close(self) -> None:
        """Closes the connection."""


class AsyncTransport(Protocol):
    """A `Transport` for asyncio, used inside one running event loop."""

    async def send(self, call: Call, timeout: float) -> Any:
        """See `Transport.send`."""

    async def close(self) -> None:
        """Closes the connection."""


def read_versions(message: Message) -> list[results.VersionStatus]:
    """Reads the versions in a GetModelStatusResponse, the newest first."""
    versions = [
        results.VersionStatus(
            version.version,
            ModelVersionStatus.State.Name(version.state),
            version.status.error_message,
        )
        for version in message.model_version_status
    ]
    return sorted(versions, reverse=True)


def read_signatures(message: Message) -> dict[str, results.Signature]:
    """Reads the signatures in a SignatureDefMap, without TensorFlow's internal ones."""
    return {
        name: results.Signature(_read_tensors(signature.inputs), _read_tensors(signature.outputs))
        for name, signature in sorted(message.signature_def.items())
        if not name.startswith("__")
    }


def _read_tensors(infos: Mapping[str, TensorInfo]) -> dict[str, results.TensorInfo]:
    return {
        name: results.TensorInfo(
            _NUMPY_NAMES.get(dtype_name(info.dtype), dtype_name(info.dtype)),
            None
            if info.tensor_shape.unknown_rank
            else tuple(None if d.size < 0 else d.size for d in info.tensor_shape.dim),
        )
        for name, info in sorted(infos.items())
    }
