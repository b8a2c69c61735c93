"""TensorFlow Serving's gRPC services, for clients and servers; all their methods are unary."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

import grpc
from google.protobuf.message_factory import GetMessageClass

from .protos import POOL

PREDICTION: Final = "tensorflow.serving.PredictionService"
MODEL: Final = "tensorflow.serving.ModelService"


def _methods(service: str) -> Iterator[tuple[str, Any, Any]]:
    """Name, request class and response class of each method."""
    for method in POOL.FindServiceByName(service).methods:
        yield method.name, GetMessageClass(method.input_type), GetMessageClass(method.output_type)


def stub(service: str, channel: Any) -> Any:
    """The methods of a service as attributes, called over a channel (blocking or asyncio)."""
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


def add_servicer(service: str, servicer: Any, server: Any) -> None:
    """Lets a server answer a service by the servicer's methods; others are UNIMPLEMENTED.

    Args:
        service: its full name.
        servicer: has a method `(request, context) -> response` of the name of each one served,
            which is a coroutine for a server of asyncio.
        server: of grpc or grpc.aio.
    """
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            getattr(servicer, name),
            request_deserializer=request.FromString,
            response_serializer=response.SerializeToString,
        )
        for name, request, response in _methods(service)
        if hasattr(servicer, name)
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
