"""The client for asyncio."""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from .transports.base import AsyncTransport
from .transports.grpc import AsyncGrpcTransport

T = TypeVar("T")


class AsyncReconstructionClient(BaseClient):
    """`ReconstructionClient` for asyncio, with the same arguments, methods, results and errors.

    Use it inside one running event loop.

    Example:

    >>> async def score(files):
    ...     async with AsyncReconstructionClient("127.0.0.1:8500") as client:
    ...         return await client.score(files)
    >>> asyncio.run(score(["photo.jpg"])).status
    ('',)
    """

    _opened_transport: AsyncTransport | None = None

    async def reconstruct(self, images: Images, as_png: bool = False) -> Reconstructions:
        """See `ReconstructionClient.reconstruct`."""
        plan = await asyncio.to_thread(self._plans.reconstruct, images, as_png)
        return await self._run(plan)

    async def encode(self, images: Arrays) -> Arrays:
        """See `ReconstructionClient.encode`."""
        return await self._run(self._plans.encode(images))

    async def decode(self, latents: Arrays) -> Arrays:
        """See `ReconstructionClient.decode`."""
        return await self._run(self._plans.decode(latents))

    async def compress(
        self,
        image: Image,
        *,
        quality: int | None = None,
        psnr: float | None = None,
        max_bytes: int | None = None,
    ) -> bytes:
        """See `ReconstructionClient.compress`."""
        target = Target(quality, psnr, max_bytes)
        return await self._with_files(lambda files: files.compress(image, target))

    async def decompress(self, data: bytes | str | os.PathLike[str]) -> np.ndarray:
        """See `ReconstructionClient.decompress`."""
        return await self._with_files(lambda files: files.decompress(data))

    async def score(self, images: Images) -> Scores:
        """See `ReconstructionClient.score`."""
        return await self._run(await asyncio.to_thread(self._plans.score, images))

    async def metadata(self) -> Metadata:
        """See `ReconstructionClient.metadata`."""
        return await self._run(self._plans.metadata())

    async def status(self) -> list[VersionStatus]:
        """See `ReconstructionClient.status`."""
        return await self._run(self._plans.status())

    async def predict(
        self, signature: str, inputs: dict[str, np.ndarray | Sequence[bytes]]
    ) -> dict[str, np.ndarray]:
        """See `ReconstructionClient.predict`."""
        return await self._run(self._plans.predict(signature, inputs))

    async def wait_until_ready(self, timeout: float = TIMEOUT) -> None:
        """See `ReconstructionClient.wait_until_ready`."""
        readiness = Readiness(self.target, self._model, timeout)
        while True:
            try:
                response = await self._transport.send(readiness.call, readiness.probe_timeout())
            except TransportError as failure:
                response = failure
            pause_seconds = readiness.pause_after(response)
            if pause_seconds is None:
                self._has_answered = True
                return
            await asyncio.sleep(pause_seconds)

    async def close(self) -> None:
        """Closes the connection."""
        if self._opened_transport is not None:
            await self._opened_transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def _transport(self) -> AsyncTransport:
        """The transport, opened on first use: gRPC binds a channel to the running event loop."""
        if self._opened_transport is None:
            if self._connection.rest:
                with from_extra("client", "REST"):
                    from .transports.rest import AsyncRestTransport

                self._opened_transport = AsyncRestTransport(self._connection, self._model)
            else:
                self._opened_transport = AsyncGrpcTransport(self._connection, self._model)
        return self._opened_transport

    async def _with_files(self, function: Callable[[LatentFiles], T]) -> T:
        """Calls a function in a thread, whose requests are sent by this event loop."""
        loop, is_over = asyncio.get_running_loop(), threading.Event()

        def run_plan(plan: RequestPlan[Any]) -> Any:
            if is_over.is_set():
                raise asyncio.CancelledError
            return asyncio.run_coroutine_threadsafe(self._run(plan), loop).result()

        # Not a thread of the default executor, which the requests themselves need.
        executor = ThreadPoolExecutor(1)
        try:
            files = LatentFiles(self._plans, run_plan, self._white)
            return await loop.run_in_executor(executor, function, files)
        finally:
            is_over.set()
            executor.shutdown(wait=False)

    async def _run(self, plan: RequestPlan[T]) -> T:
        semaphore = asyncio.Semaphore(self._in_flight)

        async def run_limited(exchange: Exchange) -> Any:
            async with semaphore:
                return await self._exchange(exchange)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run_limited(exchange)) for exchange in plan.exchanges]
        except ExceptionGroup as group_error:
            # Callers catch the same exceptions as with the blocking client.
            raise group_error.exceptions[0] from None
        return plan.join([task.result() for task in tasks])

    async def _exchange(self, exchange: Exchange) -> Any:
        attempts, call = self._attempts(), await asyncio.to_thread(exchange.build)
        while True:
            try:
                response = await self._transport.send(call, attempts.remaining_seconds())
                self._has_answered = True
                return await asyncio.to_thread(exchange.parse, response)
            except TransportError as failure:
                pause_seconds = attempts.pause_after(failure)
            await asyncio.sleep(pause_seconds)
