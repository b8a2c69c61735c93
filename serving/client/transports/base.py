"""What the transports of gRPC and REST share: a request before it has a protocol."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ...wire.protos import ModelVersionStatus
from ...wire.tensors import dtype_name
from ..results import Signature, TensorInfo, VersionStatus

PREDICT, METADATA, STATUS = "predict", "metadata", "status"
_NUMPY = {"float": "float32", "double": "float64"}


@dataclass(frozen=True)
class Call:
    """A request before it has a protocol.

    Attributes:
        kind: PREDICT, answered by arrays by name, strings as arrays of bytes objects; METADATA,
            answered by a Metadata; or STATUS, answered by a list of VersionStatus.
        signature: of PREDICT.
        inputs: of PREDICT, by name: an array, or a list of byte strings.
    """

    kind: str
    signature: str = ""
    inputs: dict[str, np.ndarray | Sequence[bytes]] = field(default_factory=dict)


class Model(NamedTuple):
    """The model that is asked: by its name, and a version or a label if not the newest."""

    name: str
    version: int | None = None
    label: str | None = None


def statuses(message: Any) -> list[VersionStatus]:
    """The versions in a GetModelStatusResponse, the newest first."""
    name = ModelVersionStatus.State.Name
    found = [
        VersionStatus(one.version, name(one.state), one.status.error_message)
        for one in message.model_version_status
    ]
    return sorted(found, reverse=True)


def read_signatures(message: Any) -> dict[str, Signature]:
    """The signatures in a SignatureDefMap, without the one that only initializes."""
    return {
        name: Signature(_tensors(one.inputs), _tensors(one.outputs))
        for name, one in sorted(message.signature_def.items())
        if not name.startswith("__")
    }


def _tensors(infos: Any) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(
            _NUMPY.get(dtype_name(info.dtype), dtype_name(info.dtype)),
            None
            if info.tensor_shape.unknown_rank
            else tuple(None if d.size < 0 else d.size for d in info.tensor_shape.dim),
        )
        for name, info in sorted(infos.items())
    }
