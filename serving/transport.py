"""Calls over gRPC, blocking and asyncio."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import grpc
import numpy as np

from serving.channel import Connection
from serving.failures import TransportError, unreadable
from serving.protos import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from serving.results import Metadata, Signature, TensorInfo, VersionStatus
from serving.tensors import dtype_name, to_array, to_proto

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


def to_message(call: Call, model: Model) -> Any:
    """The request message of a call."""
    spec = model_pb2.ModelSpec(name=model.name, signature_name=call.signature)
    if model.version is not None:
        spec.version.value = model.version
    if model.label is not None and call.kind != STATUS:
        spec.version_label = model.label
    if call.kind == STATUS:
        return get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
    if call.kind == METADATA:
        return get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        )
    inputs = {name: to_proto(value) for name, value in call.inputs.items()}
    return predict_pb2.PredictRequest(model_spec=spec, inputs=inputs)


def from_message(call: Call, message: Any) -> Any:
    """The answer in a response message.

    Raises:
        TransportError: if it cannot be read.
    """
    if call.kind == STATUS:
        return statuses(message)
    if call.kind == METADATA:
        found = get_model_metadata_pb2.SignatureDefMap()
        message.metadata["signature_def"].Unpack(found)
        spec = message.model_spec
        return Metadata(spec.name, spec.version.value, read_signatures(found))
    try:
        return {name: to_array(tensor) for name, tensor in message.outputs.items()}
    except ValueError as error:
        raise unreadable(error) from error


def statuses(message: Any) -> list[VersionStatus]:
    """The versions in a GetModelStatusResponse, the newest first."""
    name = get_model_status_pb2.ModelVersionStatus.State.Name
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


class _Grpc:
    """What both transports share: the stubs of a channel."""

    def __init__(self, connection: Connection, model: Model, channel: Any):
        self._model, self._metadata, self._channel = model, connection.headers(), channel
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        service = model_service_pb2_grpc.ModelServiceStub(channel)
        self._methods: dict[str, Callable[..., Any]] = {
            PREDICT: prediction.Predict,
            METADATA: prediction.GetModelMetadata,
            STATUS: service.GetModelStatus,
        }

    def _start(self, call: Call, timeout: float) -> Any:
        request = to_message(call, self._model)
        return self._methods[call.kind](request, timeout=timeout, metadata=self._metadata)


class GrpcTransport(_Grpc):
    """Blocking calls; may be used from several threads."""

    def __init__(self, connection: Connection, model: Model):
        credentials, options = connection.channel_credentials(), connection.channel_options()
        super().__init__(
            connection,
            model,
            grpc.insecure_channel(connection.target, options)
            if credentials is None
            else grpc.secure_channel(connection.target, credentials, options),
        )

    def send(self, call: Call, timeout: float) -> Any:
        """Sends one call and waits for its answer, `timeout` seconds at most.

        Raises:
            TransportError: if there is none.
        """
        try:
            message = self._start(call, timeout)
        except grpc.RpcError as error:
            raise TransportError(error.code(), error.details() or "") from error
        return from_message(call, message)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()


class AsyncGrpcTransport(_Grpc):
    """The same on asyncio; made and used inside one running loop."""

    def __init__(self, connection: Connection, model: Model):
        credentials, options = connection.channel_credentials(), connection.channel_options()
        super().__init__(
            connection,
            model,
            grpc.aio.insecure_channel(connection.target, options)
            if credentials is None
            else grpc.aio.secure_channel(connection.target, credentials, options),
        )

    async def send(self, call: Call, timeout: float) -> Any:
        """As `GrpcTransport.send`."""
        try:
            message = await self._start(call, timeout)
        except grpc.RpcError as error:
            raise TransportError(error.code(), error.details() or "") from error
        return from_message(call, message)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()
