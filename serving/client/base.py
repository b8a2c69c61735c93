"""The base class of the blocking and the asyncio client."""

import math
from collections.abc import Sequence
from pathlib import Path

from keras_ae.errors import ConfigurationError

from .failures import Attempts
from .plans import Plans
from .transports.base import Model
from .transports.connection import ChannelOption, Connection

TARGET = "127.0.0.1:8500"
TIMEOUT = 60.0
MAX_REQUEST_BYTES = 16_000_000
MAX_REQUEST_IMAGES = 32
FIRST_RETRIES = 4
"""Retries of a server that has not answered yet: it may not be running at all."""


class BaseClient:
    """Checks and stores the options, which `ReconstructionClient` documents."""

    def __init__(
        self,
        target: str = TARGET,
        model: str = "keras_ae",
        *,
        timeout: float = TIMEOUT,
        version: int | None = None,
        label: str | None = None,
        tls: bool = False,
        ca_certificate: str | Path | None = None,
        client_certificate: str | Path | None = None,
        client_key: str | Path | None = None,
        token: str | None = None,
        max_request_bytes: int = MAX_REQUEST_BYTES,
        max_request_images: int = MAX_REQUEST_IMAGES,
        in_flight: int = 4,
        retries: int | None = None,
        channel_options: Sequence[ChannelOption] = (),
        white: float | None = None,
    ):
        self._connection = Connection(
            target,
            tls=tls,
            ca_certificate=ca_certificate,
            client_certificate=client_certificate,
            client_key=client_key,
            token=token,
            options=tuple(channel_options),
        )
        if not model:
            raise ConfigurationError("expected the name of a model; got an empty string")
        if version is not None and label is not None:
            raise ConfigurationError(f"expected a version or a label; got {version} and {label!r}")
        limits = {
            "timeout": timeout,
            "max_request_bytes": max_request_bytes,
            "max_request_images": max_request_images,
            "in_flight": in_flight,
        }
        for name, limit in limits.items():
            if not 0 < limit < math.inf:
                raise ConfigurationError(f"expected {name} to be finite and above 0; got {limit}")
        if retries is not None and retries < 0:
            raise ConfigurationError(f"expected retries to be 0 or more; got {retries}")
        if white is not None and not 0 < white < math.inf:
            raise ConfigurationError(f"expected white to be finite and above 0; got {white}")
        self._model = Model(model, version, label)
        self._timeout, self._retries, self._in_flight = timeout, retries, in_flight
        self._has_answered, self._white = False, white
        self._plans = Plans(self._connection.rest, max_request_bytes, max_request_images, white)
        self._open()

    def _open(self) -> None:
        """Opens what a subclass needs before the first request."""

    @property
    def target(self) -> str:
        """The server's address."""
        return self._connection.target

    def _attempts(self) -> Attempts:
        default = math.inf if self._has_answered else FIRST_RETRIES
        retries = default if self._retries is None else self._retries
        return Attempts(self.target, self._timeout, retries)
