"""One served model: its wanted and its loaded versions, and the transitions between them."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpc import StatusCode

from keras_ae.errors import ConfigurationError
from serving.server.errors import RequestError, invalid
from serving.server.models import versions
from serving.server.models.servable import Servable, as_request_error, release_memory
from serving.server.models.versions import Loaders, ManagerOptions
from serving.wire.protos import ModelConfig, ModelSpec, ModelVersionStatus

logger = logging.getLogger("serving.server")

START, LOADING = ModelVersionStatus.START, ModelVersionStatus.LOADING
AVAILABLE, UNLOADING = ModelVersionStatus.AVAILABLE, ModelVersionStatus.UNLOADING
END = ModelVersionStatus.END
_PRESENT = (START, LOADING, AVAILABLE)
WAITING_LOG_SECONDS = 60.0
"""Seconds after which the log says again that a model has no version."""


@dataclass(eq=False)
class Version:
    """A version of a model. It is kept after it has ended, so that its status can be reported."""

    number: int
    path: Path
    on_idle: Callable[["Version"], None]
    """Called when the last use of the version has ended."""
    state: int = START
    servable: Servable = field(init=False, repr=False)
    """The SavedModel; it exists while the version is available or unloading."""
    loader: ThreadPoolExecutor = field(init=False, repr=False)
    """The thread that has loaded `servable` and will free its memory."""
    error: RequestError | None = None
    """Why the last attempt to load it failed."""
    uses: int = 0
    """The number of requests in flight, and of operations that run for them or for cancelled ones.
    """
    dropped: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the version is not wanted any more."""

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps the version loaded until the block ends."""
        self.uses += 1
        try:
            yield
        finally:
            self.uses -= 1
            if not self.uses:
                self.on_idle(self)


class Model:
    """The versions of one model. All methods run on one event loop; models are loaded in threads.

    A version is loaded before the versions that it replaces are unloaded, and requests in flight
    finish on the version that they started on.
    """

    def __init__(
        self, name: str, loaders: Loaders, options: ManagerOptions, on_change: Callable[[], None]
    ):
        self.name, self._loaders = name, loaders
        self._options, self._on_change = options, on_change
        self.config = ModelConfig()
        self.labels: dict[str, int] = {}
        self.versions: list[Version] = []
        self._wanted: dict[int, Path] = {}
        self._failed: set[tuple[int, Path]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    @property
    def available(self) -> list[Version]:
        """The versions that answer requests."""
        return [version for version in self.versions if version.state == AVAILABLE]

    async def poll(self) -> None:
        """Searches the base path for versions, and starts to load and to unload versions."""
        config = self.config
        if not config.base_path:
            return
        base_path = versions.local_path(self.name, config.base_path)
        try:
            folders = await asyncio.to_thread(versions.find, base_path)
        except OSError as error:
            logger.debug("%s: cannot list %s: %s", self.name, base_path, error)
            return
        # The folders do not belong to the configuration if that was replaced meanwhile.
        if self.config is config:
            self.set_wanted(versions.select(folders, config.model_version_policy))

    def unconfigure(self) -> None:
        """Removes the labels and starts to unload all versions."""
        self.config, self.labels = ModelConfig(), {}
        self.set_wanted({})

    def set_wanted(self, wanted: dict[int, Path]) -> None:
        """Starts to load and unload versions until those of `wanted`, number -> folder, remain."""
        self._wanted = wanted
        # A version that failed is not loaded again until its folder has been removed.
        self._failed &= set(wanted.items())
        present = {(v.number, v.path) for v in self.versions if v.state in _PRESENT} | self._failed
        for version in self.versions:
            if not self._is_wanted(version):
                version.dropped.set()
        for number, path in sorted(wanted.items(), reverse=True):
            if (number, path) not in present:
                version = Version(number, path, self._on_idle)
                self.versions = [v for v in self.versions if v.state != END or v.number != number]
                self.versions.append(version)
                self._start(self._load(version))
        self._retire()

    async def wait_until_available(self) -> None:
        """Waits until a version is available; the log says so while there is no version.

        Raises:
            ConfigurationError: if none of the versions can be loaded.
        """
        while not self.available:
            if self._wanted and self._failed.issuperset(self._wanted.items()):
                error = max(self.versions, key=lambda version: version.number).error
                raise ConfigurationError(f"{self.name} has no version that can be loaded: {error}")
            if not self._wanted:
                base_path = self.config.base_path
                logger.warning(
                    "%s: no version in %s yet; the ports open when one has loaded",
                    *(self.name, base_path),
                )
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), WAITING_LOG_SECONDS)

    async def settle(self) -> None:
        """Waits until every wanted version is available or has failed to load once."""
        while any(not v.error and v.state in (START, LOADING) for v in self.versions):
            self._changed.clear()
            await self._changed.wait()

    def resolve(self, spec: ModelSpec) -> Version:
        """Returns the available version that a ModelSpec requests; raises RequestError."""
        number = self._number_of(spec)
        matching = [v for v in self.available if number is None or v.number == number]
        if not matching:
            name = self.name[:200]
            requested = f"Latest({name})" if number is None else f"Specific({name}, {number})"
            message = f"Servable not found for request: {requested}"
            raise RequestError(StatusCode.NOT_FOUND, message)
        # After a change of the base path two versions may have the same number: take the later one.
        return max(reversed(matching), key=lambda version: version.number)

    async def close(self) -> None:
        """Stops loading, and waits for versions that are being loaded or freed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _number_of(self, spec: ModelSpec) -> int | None:
        """Returns the version number in a ModelSpec, also of its label; None for the latest."""
        kind = spec.WhichOneof("version_choice")
        if kind == "version_label":
            if spec.version_label not in self.labels:
                raise invalid(f"Unrecognized servable version label: {spec.version_label[:200]}")
            return self.labels[spec.version_label]
        return int(spec.version.value) if kind == "version" else None

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, version: Version) -> None:
        version.state = LOADING
        for attempt in range(self._options.load_retries + 1):
            if attempt:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(version.dropped.wait(), self._options.retry_seconds)
            async with self._loaders.load_lock:
                if version.dropped.is_set() or await self._try_to_load(version):
                    break
        if version.state == LOADING:
            version.state = END
            if self._is_wanted(version):
                self._failed.add((version.number, version.path))
        self._retire()
        self._notify()

    async def _try_to_load(self, version: Version) -> bool:
        loop, started, loader = asyncio.get_running_loop(), time.monotonic(), self._loaders.take()
        try:
            version.servable = await loop.run_in_executor(loader, Servable, version.path)
        # TensorFlow raises exceptions of many classes for a broken folder.
        except Exception as error:
            self._loaders.give_back(loader)
            version.error = as_request_error(error)
            message = version.error.message
            logger.error("%s: version %d failed to load: %s", self.name, version.number, message)
            self._notify()
            return False
        version.loader, version.error, version.state = loader, None, AVAILABLE
        seconds = time.monotonic() - started
        logger.info("%s: version %d loaded in %.1f s", self.name, version.number, seconds)
        return True

    def _is_wanted(self, version: Version) -> bool:
        return self._wanted.get(version.number) == version.path

    def _retire(self) -> None:
        """Unloads versions that are not wanted, once a wanted one is available."""
        if self._wanted and not any(map(self._is_wanted, self.available)):
            return
        for version in self.available:
            if not self._is_wanted(version):
                version.state = UNLOADING
                self._notify()
                if not version.uses:
                    self._on_idle(version)

    def _on_idle(self, version: Version) -> None:
        if version.state == UNLOADING:
            self._start(self._free(version))

    async def _free(self, version: Version) -> None:
        del version.servable
        await asyncio.get_running_loop().run_in_executor(version.loader, release_memory)
        self._loaders.give_back(version.loader)
        version.state = END
        logger.info("%s: version %d unloaded", self.name, version.number)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._on_change()
