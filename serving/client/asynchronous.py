"""The client on asyncio."""

import asyncio
from collections.abc import Sequence
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
from .transports.grpc import AsyncGrpcTransport

T = TypeVar("T")


class AsyncReconstructionClient(BaseClient):
    """`ReconstructionClient` on asyncio: same arguments, methods, answers, errors.

    It is used inside one running event loop.

    Example:

    >>> async def score(files):
    ...     async with AsyncReconstructionClient("127.0.0.1:8500") as client:
    ...         return await client.score(files)
    >>> asyncio.run(score(["photo.jpg"])).status
    ('',)
    """

    _opened: Any = None

    async def reconstruct(self, images: Images, as_png: bool = False) -> Reconstructions:
        """See `ReconstructionClient.reconstruct`."""
        plan = await asyncio.to_thread(self._plans.reconstruct, images, as_png)
        return await self._run(plan)

    async def encode(self, images: np.ndarray | Sequence[np.ndarray]) -> Any:
        """See `ReconstructionClient.encode`."""
        return await self._run(self._plans.encode(images))

    async def decode(self, latents: np.ndarray | Sequence[np.ndarray]) -> Any:
        """See `ReconstructionClient.decode`."""
        return await self._run(self._plans.decode(latents))

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
                seen = await self._transport.send(readiness.call, readiness.probe_timeout())
            except TransportError as failure:
                seen = failure
            pause = readiness.pause_after(seen)
            if pause is None:
                return
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """Closes the connection."""
        if self._opened is not None:
            await self._opened.close()

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
    def _transport(self) -> Any:
        """Opened at the first request: gRPC ties a channel to the loop that runs then."""
        if self._opened is None:
            if self._connection.rest:
                with from_extra("client", "REST"):
                    from .transports.rest import AsyncRestTransport

                self._opened = AsyncRestTransport(self._connection, self._model)
            else:
                self._opened = AsyncGrpcTransport(self._connection, self._model)
        return self._opened

    async def _run(self, plan: Plan[T]) -> T:
        turns = asyncio.Semaphore(self._in_flight)

        async def in_turn(exchange: Exchange) -> Any:
            async with turns:
                return await self._exchange(exchange)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(in_turn(exchange)) for exchange in plan.exchanges]
        except ExceptionGroup as errors:
            # A caller catches the same as from the other client.
            raise errors.exceptions[0] from None
        return plan.join([task.result() for task in tasks])

    async def _exchange(self, exchange: Exchange) -> Any:
        attempts, call = self._attempts(), await asyncio.to_thread(exchange.build)
        while True:
            try:
                answer = await self._transport.send(call, attempts.remaining())
                return await asyncio.to_thread(exchange.parse, answer)
            except TransportError as failure:
                pause = attempts.pause_after(failure)
            await asyncio.sleep(pause)
