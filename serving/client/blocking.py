"""The blocking client of a reconstruction server, over gRPC or REST."""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from keras_ae.codec.images import Target
from keras_ae.imports import from_extra

from .base import TIMEOUT, BaseClient
from .failures import TransportError
from .images import Arrays, Image, Images
from .latent_files import LatentFiles
from .plans import Exchange, RequestPlan
from .readiness import Readiness
from .results import Metadata, Reconstructions, Scores, VersionStatus
from .transports.base import Transport
from .transports.grpc import GrpcTransport

T = TypeVar("T")


class ReconstructionClient(BaseClient):
    """A client that gets reconstructions, latents and scores from a server. It is thread-safe.

    Args:
        target: "host:port" or "unix:/path" for gRPC; "http://host:port" or "https://..." for REST.
        model: name of the model on the server.
        timeout: seconds for each request including its retries.
        version: number of a version; the newest one if neither it nor `label` is given.
        label: label of a version.
        tls: whether to encrypt gRPC; REST is encrypted if its target starts with https://.
        ca_certificate: PEM file of the certificate authorities to trust instead of the system's.
        client_certificate, client_key: PEM files, for a server that verifies its clients.
        token: bearer token; it is never sent in plain text to another machine.
        max_request_bytes: approximate size of the largest request or response. A larger batch is
            split into several requests, as is one with more pixels than a server accepts; an image
            that is larger by itself is sent in a request of its own.
        max_request_images: number of images of the largest request.
        in_flight: number of concurrent requests of a batch that is split.
        retries: number of retries of a request while the server is unavailable. By default, as many
            as fit into the timeout, so that a restart of the server fails no request; but only 4
            before the server has answered once.
        channel_options: further gRPC channel arguments, as (name, value) pairs.
        white: level that becomes white in image files of floats or 32-bit integers, as `--white` of
            the training run; without it, floats must be of 0..1 and such integers are refused.
            Files of 16 bits do not need it: the model knows the range of their levels.

    Raises:
        ConfigurationError: if options contradict each other.

    The methods raise subclasses of `keras_ae.errors.ServingError`.

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

            self._transport: Transport = RestTransport(self._connection, self._model)
        else:
            self._transport = GrpcTransport(self._connection, self._model)
        self._files = LatentFiles(self._plans, self._run, self._white)

    def reconstruct(self, images: Images, as_png: bool = False) -> Reconstructions:
        """Reconstructs images. An image that cannot be used gets a status and fails no other image.

        Args:
            images: a uint8 array [N, H, W, C] with as many channels as the model has; a path or
                the bytes of an image file; or a list of paths, bytes and arrays [H, W, C] of any
                sizes. Files may be PNG, JPEG, BMP, GIF, WebP, TIFF (first page), PPM, PGM, PBM,
                AVIF and, with pillow-heif, HEIC. What a server would decode otherwise than the
                training pipeline is sent as PNG: a photograph that its EXIF data turn, a GIF with
                transparency, a TIFF. All other files are sent as they are. Over REST, arrays are
                sent as PNG, which is much smaller than JSON and has the same pixels.
            as_png: whether to return reconstructions as the server's PNG files instead of arrays.

        Raises:
            InvalidRequestError: if an array has another dtype, rank or number of channels.
            DataError: if a file cannot be read.
        """
        return self._run(self._plans.reconstruct(images, as_png))

    def encode(self, images: Arrays) -> Arrays:
        """Encodes images into latents.

        Args:
            images: a uint8 array [N, H, W, C], or a list of [H, W, C] of any sizes.

        Returns:
            float32 [N, h, w, c], or a list of [h, w, c].
        """
        return self._run(self._plans.encode(images))

    def decode(self, latents: Arrays) -> Arrays:
        """Decodes latents into images.

        Args:
            latents: a float32 array [N, h, w, c], or a list of [h, w, c] of any sizes.

        Returns:
            uint8 [N, H, W, C], or a list of [H, W, C]; H and W are multiples of the stride.
        """
        return self._run(self._plans.decode(latents))

    def compress(
        self,
        image: Image,
        *,
        quality: int | None = None,
        psnr: float | None = None,
        max_bytes: int | None = None,
    ) -> bytes:
        """Compresses an image to a .kae file: its latent, quantised and entropy-coded.

        Args:
            image: a uint8 array [H, W, C] with as many channels as the model has, or a path or the
                bytes of an image file.
            quality: 1 to 100; 75 if no target is given.
            psnr: instead of a quality, the least PSNR in dB; the file is the smallest that has it.
            max_bytes: instead of a quality, the most bytes of the file.

        Raises:
            ConfigurationError: if a target is invalid or cannot be reached; the message gives the
                bounds.
            DataError: if the file cannot be read, or the model cannot write .kae files.
        """
        return self._files.compress(image, Target(quality, psnr, max_bytes))

    def decompress(self, data: bytes | str | os.PathLike[str]) -> np.ndarray:
        """Decompresses a .kae file with the model that wrote it.

        Args:
            data: path or content of the file.

        Returns:
            uint8 [H, W, C], of the size of the original.

        Raises:
            DataError: if the file is damaged, or another model wrote it.
        """
        return self._files.decompress(data)

    def score(self, images: Images) -> Scores:
        """Returns the scores of the reconstructions; `images` are those of `reconstruct`."""
        return self._run(self._plans.score(images))

    def metadata(self) -> Metadata:
        """Returns the version that is served, and its signatures with dtypes and shapes."""
        return self._run(self._plans.metadata())

    def status(self) -> list[VersionStatus]:
        """Returns the versions that the server knows and their states, the newest first."""
        return self._run(self._plans.status())

    def predict(
        self, signature: str, inputs: dict[str, np.ndarray | Sequence[bytes]]
    ) -> dict[str, np.ndarray]:
        """Calls a signature with the given tensors, in one request.

        Args:
            signature: name of the signature.
            inputs: input name -> array or list of byte strings.

        Returns:
            Output name -> array; strings are object arrays of bytes.
        """
        return self._run(self._plans.predict(signature, inputs))

    def wait_until_ready(
        self, timeout: float = TIMEOUT, while_waiting: Callable[[], object] = lambda: None
    ) -> None:
        """Waits until the server has loaded the model, or its requested version or label.

        Args:
            timeout: seconds to wait at most.
            while_waiting: called after each unsuccessful probe; its exceptions end the waiting.

        Raises:
            ServerError: if the server could not load the model.
            DeadlineError: if it takes longer; the message has the last response of the server.
        """
        readiness = Readiness(self.target, self._model, timeout)
        while True:
            try:
                response = self._transport.send(readiness.call, readiness.probe_timeout())
            except TransportError as failure:
                response = failure
            pause_seconds = readiness.pause_after(response)
            if pause_seconds is None:
                self._has_answered = True
                return
            while_waiting()
            time.sleep(pause_seconds)

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

    def _run(self, plan: RequestPlan[T]) -> T:
        if len(plan.exchanges) < 2:
            return plan.join([self._exchange(exchange) for exchange in plan.exchanges])
        results: list[Any] = []
        pending: deque[Future[Any]] = deque()
        pool = ThreadPoolExecutor(self._in_flight)
        try:
            for exchange in plan.exchanges:
                pending.append(pool.submit(self._exchange, exchange))
                if len(pending) > self._in_flight:
                    results.append(pending.popleft().result())
            results += [future.result() for future in pending]
        finally:
            pool.shutdown(cancel_futures=True)
        return plan.join(results)

    def _exchange(self, exchange: Exchange) -> Any:
        attempts, call = self._attempts(), exchange.build()
        while True:
            try:
                response = self._transport.send(call, attempts.remaining_seconds())
                self._has_answered = True
                return exchange.parse(response)
            except TransportError as failure:
                pause_seconds = attempts.pause_after(failure)
            time.sleep(pause_seconds)
