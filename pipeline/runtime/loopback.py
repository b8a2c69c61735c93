"""Keeps Beam's servers for worker processes to this machine: it binds them to every address."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

_EVERYWHERE, _HERE = "[::]:", "localhost:"


@contextmanager
def only() -> Iterator[None]:
    """Binds servers of gRPC that are made meanwhile, and asked to listen on every address, to
    loopback.

    Beam's own workers reach them as `localhost`. Whoever reaches the others' ports reads the data
    of a run and can give its workers code.
    """
    usual = grpc.server

    def server(*arguments: Any, **options: Any) -> grpc.Server:
        made = usual(*arguments, **options)
        bind = made.add_insecure_port

        def bind_here(address: str) -> int:
            if address.startswith(_EVERYWHERE):
                address = _HERE + address.removeprefix(_EVERYWHERE)
            return int(bind(address))

        made.add_insecure_port = bind_here
        return made

    grpc.server = server
    try:
        yield
    finally:
        grpc.server = usual
