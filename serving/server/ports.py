"""TCP ports, which are taken when the server starts and opened when its models have loaded."""

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Final

from keras_ae.errors import ConfigurationError

_REASONS: Final = {
    errno.EADDRINUSE: "another process uses the port; stop it, or choose another port",
    errno.EACCES: "the port is not allowed; choose one from 1024 to 65535",
}


def bind(host: str, port: int) -> socket.socket:
    """Binds a TCP socket that does not listen, so that connections are refused until it does.

    Raises:
        ConfigurationError: if the port is in use or not allowed, or this machine does not have the
            address.
    """
    with _explained(host, port):
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except OSError:
            bound.close()
            raise
        return bound


def listen(bound: socket.socket) -> int:
    """Makes a socket of `bind` listen; returns its port. Raises ConfigurationError."""
    host, port = bound.getsockname()[:2]
    with _explained(host, port):
        bound.listen()
    return int(port)


@contextlib.contextmanager
def _explained(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, str(error))
        raise ConfigurationError(f"cannot listen on {host}:{port}: {reason}") from error
