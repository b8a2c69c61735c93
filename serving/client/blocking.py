"""Reconstructions from a server, by gRPC or REST."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from keras_ae.imports import from_extra

from .base import TIMEOUT, BaseClient
from .failures import TransportError
from .images import Images
from .plans import Exchange, Plan
from .readiness import Readiness
from .results import Metadata, Reconstructions, Scores, VersionStatus
from .transports.grpc import GrpcTransport

T = TypeVar("T")


class ReconstructionClient(BaseClient):
    """Asks a server for reconstructions, latents and scores; may be used from several threads.

    Args:
        target: "host:port" or "unix:/path" for gRPC; "http://host:port" or "https://..." for REST.
        model: its name on the server.
        timeout: seconds for each request with its retries; there is always a deadline.
        version: a version's number; the newest if neither it nor `label` is given.
        label: a version's label.
        tls: encrypt gRPC; an address of https:// always is.
        ca_certificate: PEM file of the authorities to trust instead of the system's.
        client_certificate, client_key: PEM files, where the server wants to know the client.
        token: sent as a bearer token; never in plain text to another machine.
        max_request_bytes: larger batches are split into several requests, by about this size of a
            request or its answer, and by the pixels that a server takes; an image that is larger
            travels alone.
        max_request_images: likewise, by count.
        in_flight: most requests at a time of a batch that is split.
        retries: attempts after the first one, when the server is unavailable.
        channel_options: gRPC channel arguments beside the client's own.

    Raises:
        ConfigurationError: for options that do not fit together.

    Its methods raise a ServingError: `keras_ae.errors` has its kinds.

    Example:

    >>> with ReconstructionClient("127.0.0.1:8500") as client:
    ...     result = client.reconstruct(["photo.jpg"])
    ...     latents = client.encode(result.reconstructions[0][None])
    >>> result.status, result.reconstructions[0].shape, latents.shape
    (('',), (48, 64, 3), (1, 6, 8, 8))
    """

    def _open(self) -> None:
        if self._connection.rest:
            with from_extra("client", "REST"):
                from .transports.rest import RestTransport

            self._transport: Any = RestTransport(self._connection, self._model)
        else:
            self._transport = GrpcTransport(self._connection, self._model)

    def reconstruct(self, images: Images, as_png: bool = False) -> Reconstructions:
        """Reconstructs images; one that cannot be used gets a status and fails no other.

        Args:
            images: a uint8 array [N, H, W, C] with C as the model has it; a path or the bytes of
                an image file; or a list of paths, bytes and arrays [H, W, C], in any sizes. Files
                may be PNG, JPEG, BMP, GIF and WebP. Over REST arrays travel as PNG, which is much
                smaller than JSON and has the same pixels.
            as_png: whether reconstructions are given as the server's PNG files instead of arrays.

        Raises:
            InvalidRequestError: for another dtype, rank or number of channels.
            DataError: if a file cannot be read.
        """
        return self._run(self._plans.reconstruct(images, as_png))

    def encode(self, images: np.ndarray | Sequence[np.ndarray]) -> Any:
        """Latents of images.

        Args:
            images: a uint8 array [N, H, W, C], or a list of [H, W, C] in any sizes.

        Returns:
            float32 [N, h, w, c], or a list of [h, w, c].
        """
        return self._run(self._plans.encode(images))

    def decode(self, latents: np.ndarray | Sequence[np.ndarray]) -> Any:
        """Images of latents.

        Args:
            latents: a float32 array [N, h, w, c], or a list of [h, w, c] in any sizes.

        Returns:
            uint8 [N, H, W, C], or a list of [H, W, C]; H and W are multiples of the stride.
        """
        return self._run(self._plans.decode(latents))

    def score(self, images: Images) -> Scores:
        """Scores of the reconstructions, without these; `images` as `reconstruct` takes them."""
        return self._run(self._plans.score(images))

    def metadata(self) -> Metadata:
        """The version that answers, and its signatures with dtypes and shapes."""
        return self._run(self._plans.metadata())

    def status(self) -> list[VersionStatus]:
        """The versions that the server knows and their states, the newest first."""
        return self._run(self._plans.status())

    def predict(
        self, signature: str, inputs: dict[str, np.ndarray | Sequence[bytes]]
    ) -> dict[str, np.ndarray]:
        """Calls a signature with tensors as they are, in one request.

        Args:
            signature: its name.
            inputs: by name, an array or a list of byte strings.

        Returns:
            Arrays by name; strings as arrays of bytes objects.
        """
        return self._run(self._plans.predict(signature, inputs))

    def wait_until_ready(
        self, timeout: float = TIMEOUT, while_waiting: Callable[[], object] = lambda: None
    ) -> None:
        """Waits until the server has the model, or the version or label, ready.

        Args:
            timeout: seconds.
            while_waiting: called now and then; what it raises ends the waiting.

        Raises:
            ServerError: if the server could not load the model.
            DeadlineError: if it takes longer; says what was seen last.
        """
        readiness = Readiness(self.target, self._model, timeout)
        while True:
            try:
                seen = self._transport.send(readiness.call, readiness.probe_timeout())
            except TransportError as failure:
                seen = failure
            pause = readiness.pause_after(seen)
            if pause is None:
                return
            while_waiting()
            time.sleep(pause)

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, plan: Plan[T]) -> T:
        if len(plan.exchanges) < 2:
            return plan.join([self._exchange(exchange) for exchange in plan.exchanges])
        parts: list[Any] = []
        waiting: deque[Future[Any]] = deque()
        pool = ThreadPoolExecutor(self._in_flight)
        try:
            for exchange in plan.exchanges:
                waiting.append(pool.submit(self._exchange, exchange))
                if len(waiting) > self._in_flight:
                    parts.append(waiting.popleft().result())
            parts += [future.result() for future in waiting]
        finally:
            pool.shutdown(cancel_futures=True)
        return plan.join(parts)

    def _exchange(self, exchange: Exchange) -> Any:
        attempts, call = self._attempts(), exchange.build()
        while True:
            try:
                return exchange.parse(self._transport.send(call, attempts.remaining()))
            except TransportError as failure:
                pause = attempts.pause_after(failure)
            time.sleep(pause)
