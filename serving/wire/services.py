"""TensorFlow Serving's gRPC services, for clients and servers. All their methods are unary."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Final

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from .protos import POOL

PREDICTION: Final = "tensorflow.serving.PredictionService"
MODEL: Final = "tensorflow.serving.ModelService"


def _methods(service: str) -> Iterator[tuple[str, type[Message], type[Message]]]:
    """Yields name, request class and response class of each method."""
    for method in POOL.FindServiceByName(service).methods:
        yield method.name, GetMessageClass(method.input_type), GetMessageClass(method.output_type)


def stub(service: str, channel: grpc.Channel | grpc.aio.Channel) -> SimpleNamespace:
    """Returns an object whose attributes are the methods of a service, called over a channel."""
    return SimpleNamespace(
        **{
            name: channel.unary_unary(
                f"/{service}/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            for name, request, response in _methods(service)
        }
    )


def _serialize(response: Message | bytes) -> bytes:
    return response if isinstance(response, bytes) else bytes(response.SerializeToString())


def request_classes(service: str) -> dict[str, type[Message]]:
    """Returns the request class of each method of a service."""
    return {name: request for name, request, _ in _methods(service)}


def add_servicer(
    service: str, servicer: object, server: grpc.Server | grpc.aio.Server, parse: bool = True
) -> None:
    """Registers a servicer for a service on a server that is not started yet.

    The servicer has a method `(request, context) -> response` for each method of the service that
    it implements, a coroutine function if the server is a grpc.aio one. It gets the bytes of a
    request unless they are to be parsed. A response may be the bytes of its message. The server
    answers the other methods with UNIMPLEMENTED.
    """
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            getattr(servicer, name),
            request_deserializer=request.FromString if parse else None,
            response_serializer=_serialize,
        )
        for name, request, _ in _methods(service)
        if hasattr(servicer, name)
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
