"""One served model: which versions should be there, which are, and how one follows another."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from serving.server.core import RequestError, invalid
from serving.server.models import versions
from serving.server.models.servable import Servable, as_request_error, release_memory
from serving.server.models.versions import Loaders
from serving.wire.protos import ModelConfig, ModelVersionStatus

logger = logging.getLogger("serving.server")

START, LOADING = ModelVersionStatus.START, ModelVersionStatus.LOADING
AVAILABLE, UNLOADING = ModelVersionStatus.AVAILABLE, ModelVersionStatus.UNLOADING
END = ModelVersionStatus.END
_PRESENT = (START, LOADING, AVAILABLE)


class Version:
    """A version of a model, from the moment that it is wanted until long after it is gone.

    Attributes:
        number: of the version.
        path: folder that it is loaded from.
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        loader: the thread that loads it and, in the end, frees its memory; while it is loaded.
        loaded: the model, while there is one.
        error: why it could not be loaded, so far.
        requests: that are being answered by it.
        dropped: set once it is not wanted any more.
    """

    def __init__(self, number: int, path: Path):
        self.number, self.path = number, path
        self.state = START
        self.loader: ThreadPoolExecutor | None = None
        self.loaded: Servable | None = None
        self.error: RequestError | None = None
        self.requests = 0
        self.dropped = asyncio.Event()

    @property
    def servable(self) -> Servable:
        """What answers the requests of an available version."""
        if self.loaded is None:
            raise RuntimeError(f"version {self.number} is not loaded")
        return self.loaded


class Model:
    """The versions of one model. Lives on one event loop; loads and frees in a thread.

    A version is loaded before the ones that it replaces go, and requests in flight finish on the
    version that they began on.
    """

    def __init__(
        self,
        name: str,
        *,
        loaders: Loaders,
        load_retries: int,
        retry_seconds: float,
        load: Callable[[Path], Servable] = Servable,
        on_change: Callable[[], None] = lambda: None,
    ):
        """
        Args:
            name: that requests call it by.
            loaders: the threads that models are loaded and freed in.
            load_retries: how often a version that cannot be loaded is tried again.
            retry_seconds: between these tries.
            load: reads a version's folder.
            on_change: called when a version has become available or has stopped to be.
        """
        self.name = name
        self.config = ModelConfig()
        self.labels: dict[str, int] = {}
        self.versions: list[Version] = []
        self._loaders, self._load_folder, self._on_change = loaders, load, on_change
        self._retries, self._retry_seconds = load_retries, retry_seconds
        self._aspired: dict[int, Path] = {}
        self._failed: set[tuple[int, Path]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    @property
    def available(self) -> list[Version]:
        """The versions that answer requests."""
        return [version for version in self.versions if version.state == AVAILABLE]

    async def poll(self) -> None:
        """Looks under the base path, and starts what has to be loaded and stops what has to go."""
        config = self.config
        if not config.base_path:
            return
        base_path = versions.local_path(self.name, config.base_path)
        try:
            found = await asyncio.to_thread(versions.find, base_path)
        except OSError as error:
            logger.debug("%s: cannot list %s: %s", self.name, base_path, error)
            return
        # What was found says nothing about a configuration that came meanwhile.
        if self.config is config:
            self.aspire(versions.aspired(found, config.model_version_policy))

    def unconfigure(self) -> None:
        """Lets go of every version and of the labels; returns at once."""
        self.config = ModelConfig()
        self.labels = {}
        self.aspire({})

    def aspire(self, wanted: dict[int, Path]) -> None:
        """Makes `wanted`, version -> folder, what is served; returns at once."""
        self._aspired = wanted
        # One that failed is not tried again while its folder stays.
        self._failed &= set(wanted.items())
        present = {(v.number, v.path) for v in self.versions if v.state in _PRESENT} | self._failed
        for version in self.versions:
            if not self._wanted(version):
                version.dropped.set()
        for number, path in sorted(wanted.items(), reverse=True):
            if (number, path) not in present:
                version = Version(number, path)
                self.versions = [v for v in self.versions if v.state != END or v.number != number]
                self.versions.append(version)
                self._start(self._load(version))
        self._retire()

    async def settle(self) -> None:
        """Waits until every version that is wanted is available or could not be loaded."""
        while any(not v.error and v.state in (START, LOADING) for v in self.versions):
            self._changed.clear()
            await self._changed.wait()

    def resolve(self, spec: Any) -> Version:
        """The available version that a ModelSpec means.

        Raises:
            RequestError: NOT_FOUND, or INVALID_ARGUMENT for a label that nobody has given.
        """
        number = self.number_of(spec)
        matching = [v for v in self.available if number is None or v.number == number]
        if not matching:
            name = self.name[:200]
            asked = f"Latest({name})" if number is None else f"Specific({name}, {number})"
            raise RequestError(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}"
            )
        # Of two with the same number, which a changed base path gives, the later one.
        return max(reversed(matching), key=lambda version: version.number)

    def number_of(self, spec: Any) -> int | None:
        """The version number that a ModelSpec names, itself or by a label; None for the latest."""
        kind = spec.WhichOneof("version_choice")
        if kind == "version_label":
            if spec.version_label not in self.labels:
                raise invalid(f"Unrecognized servable version label: {spec.version_label[:200]}")
            return self.labels[spec.version_label]
        return int(spec.version.value) if kind == "version" else None

    def release(self, version: Version) -> None:
        """Takes back one of `version.requests`; the last one of an old version frees it."""
        version.requests -= 1
        if version.state == UNLOADING and not version.requests:
            self._start(self._free(version))

    async def close(self) -> None:
        """Stops loading and waits for what is being loaded or freed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, version: Version) -> None:
        version.state = LOADING
        for attempt in range(self._retries + 1):
            if attempt:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(version.dropped.wait(), self._retry_seconds)
            async with self._loaders.turn:
                if version.dropped.is_set() or await self._try_to_load(version):
                    break
        if version.loaded is None:
            version.state = END
            self._failed.add((version.number, version.path))
            self._failed &= set(self._aspired.items())
        self._retire()
        self._notify()

    async def _try_to_load(self, version: Version) -> bool:
        loop, begun, loader = asyncio.get_running_loop(), time.monotonic(), self._loaders.take()
        try:
            servable = await loop.run_in_executor(loader, self._load_folder, version.path)
        # What a broken folder makes TensorFlow raise has no common class.
        except Exception as error:
            self._loaders.give_back(loader)
            version.error = as_request_error(error)
            words = version.error.message
            logger.error("%s: version %d failed to load: %s", self.name, version.number, words)
            self._notify()
            return False
        version.loaded, version.loader = servable, loader
        version.error, version.state = None, AVAILABLE
        seconds = time.monotonic() - begun
        logger.info("%s: version %d loaded in %.1f s", self.name, version.number, seconds)
        return True

    def _wanted(self, version: Version) -> bool:
        return self._aspired.get(version.number) == version.path

    def _retire(self) -> None:
        """Lets go of what is not wanted once something that is wanted answers."""
        if self._aspired and not any(map(self._wanted, self.available)):
            return
        for version in self.available:
            if not self._wanted(version):
                version.state = UNLOADING
                self._notify()
                if not version.requests:
                    self._start(self._free(version))

    async def _free(self, version: Version) -> None:
        loader, version.loaded, version.loader = version.loader, None, None
        await asyncio.get_running_loop().run_in_executor(loader, release_memory)
        if loader:
            self._loaders.give_back(loader)
        version.state = END
        logger.info("%s: version %d unloaded", self.name, version.number)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._on_change()
