"""The blocking and asyncio transports over gRPC."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from ...wire import services
from ...wire.protos import (
    GetModelMetadataRequest,
    GetModelStatusRequest,
    ModelSpec,
    PredictRequest,
    SignatureDefMap,
)
from ...wire.tensors import to_array, to_proto
from ..failures import TransportError, unreadable
from ..results import Metadata
from .base import (
    METADATA,
    PREDICT,
    STATUS,
    Call,
    Model,
    read_signatures,
    read_versions,
)
from .connection import Connection


def to_message(call: Call, model: Model) -> Message:
    """Returns the request message of a call."""
    spec = ModelSpec(name=model.name, signature_name=call.signature)
    if model.version is not None:
        spec.version.value = model.version
    if model.label is not None and call.kind != STATUS:
        spec.version_label = model.label
    if call.kind == STATUS:
        return GetModelStatusRequest(model_spec=spec)
    if call.kind == METADATA:
        return GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
    inputs = {name: to_proto(value) for name, value in call.inputs.items()}
    return PredictRequest(model_spec=spec, inputs=inputs)


def from_message(call: Call, message: Message) -> Any:
    """Reads the result of a call from its response message.

    Raises:
        TransportError: if the message cannot be read.
    """
    if call.kind == STATUS:
        return read_versions(message)
    if call.kind == METADATA:
        signatures = SignatureDefMap()
        message.metadata["signature_def"].Unpack(signatures)
        spec = message.model_spec
        return Metadata(spec.name, spec.version.value, read_signatures(signatures))
    try:
        return {name: to_array(tensor) for name, tensor in message.outputs.items()}
    except ValueError as error:
        raise unreadable(error) from error


class _BaseGrpcTransport:
    """The methods of the services, called over a channel."""

    def __init__(
        self, connection: Connection, model: Model, channel: grpc.Channel | grpc.aio.Channel
    ):
        self._model, self._metadata, self._channel = model, connection.headers(), channel
        prediction = services.stub(services.PREDICTION, channel)
        model_service = services.stub(services.MODEL, channel)
        self._methods: dict[str, Callable[..., Any]] = {
            PREDICT: prediction.Predict,
            METADATA: prediction.GetModelMetadata,
            STATUS: model_service.GetModelStatus,
        }

    def _start(self, call: Call, timeout: float) -> Any:
        request = to_message(call, self._model)
        return self._methods[call.kind](request, timeout=timeout, metadata=self._metadata)


class GrpcTransport(_BaseGrpcTransport):
    """A blocking `Transport` over gRPC."""

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
        """See `Transport.send`."""
        try:
            message = self._start(call, timeout)
        except grpc.RpcError as error:
            raise TransportError(error.code(), error.details() or "") from error
        return from_message(call, message)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()


class AsyncGrpcTransport(_BaseGrpcTransport):
    """An `AsyncTransport` over gRPC, also created inside the running event loop."""

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
        """See `Transport.send`."""
        try:
            message = await self._start(call, timeout)
        except grpc.RpcError as error:
            raise TransportError(error.code(), error.details() or "") from error
        return from_message(call, message)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()
