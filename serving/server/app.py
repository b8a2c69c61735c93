"""Assembles the server and runs it until SIGTERM or SIGINT."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvicorn

from keras_ae import imports
from keras_ae.errors import ConfigurationError
from serving.server.errors import RequestError
from serving.server.flags import Flags
from serving.server.frontends import rpc
from serving.server.frontends.metrics import Metrics
from serving.server.frontends.rest import create_app
from serving.server.models import config
from serving.server.models.manager import Manager
from serving.wire.protos import ModelServerConfig

logger = logging.getLogger("serving.server")

GRACE_SECONDS = 25.0
"""Time for requests in flight after SIGTERM; Kubernetes sends SIGKILL after 30 s."""


def run(flags: Flags) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logger.setLevel(logging.INFO)
    logger.info("TensorFlow computes on: %s", _start_tensorflow(flags))
    try:
        asyncio.run(_serve_until_signalled(flags))
    except ConfigurationError as error:
        logger.error("%s", error)
        return 1
    return 0


def _start_tensorflow(flags: Flags) -> str:
    """Imports and configures TensorFlow; returns the types of its devices.

    Standard error is discarded meanwhile: TensorFlow's C++ code logs before it knows its log level,
    and about devices that do not exist.
    """
    stderr_copy = os.dup(2)
    with Path(os.devnull).open("wb") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        # A SavedModel needs neither Keras nor the packages that TensorFlow tries to import.
        with imports.hide_packages("keras", *imports.OPTIONAL_PACKAGES):
            import tensorflow as tf
        tf.config.threading.set_intra_op_parallelism_threads(flags.intra_op_threads)
        tf.config.threading.set_inter_op_parallelism_threads(flags.inter_op_threads)
        # On CPUs, graph optimization takes most of the time of loading a model, and does not make
        # reconstructions faster; only `score` would be a quarter faster with it.
        if not tf.config.list_physical_devices("GPU"):
            tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        devices = tf.config.list_logical_devices()
        return ", ".join(sorted({device.device_type for device in devices}))
    finally:
        os.dup2(stderr_copy, 2)
        os.close(stderr_copy)


async def _serve_until_signalled(flags: Flags) -> None:
    stop_requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop_requested.set)
    server = Server(flags)
    await server.start()
    await stop_requested.wait()
    logger.info("stopping: requests in flight have %.0f s", GRACE_SECONDS)
    await server.stop()
    # asyncio.run waits for the threads of the default executor, which may still compute.
    loop.set_default_executor(ThreadPoolExecutor(1))
    logger.info("stopped")


class _HttpServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Installs no signal handlers, since `_serve_until_signalled` has its own."""
        yield


class Server:
    """The gRPC and REST servers and the models, on one event loop.

    Attributes:
        manager: the models.
        grpc_port: port that gRPC is bound to; 0 for none.
        rest_port: port that REST is bound to; 0 for none.
    """

    def __init__(self, flags: Flags):
        self._flags = flags
        self._health = rpc.Health()
        self.manager = Manager(flags.manager, flags.batching, self._update_health)
        self._metrics = Metrics(self.manager.models)
        self._grpc = rpc.build(self.manager, self._metrics, self._health, flags)
        self._rest: _HttpServer | None = None
        self._rest_task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.grpc_port = self.rest_port = 0

    async def start(self) -> None:
        """Listens, and starts to load the models.

        Raises ConfigurationError if it cannot listen, or a label is assigned to a version, none of
        which is loaded yet.
        """
        try:
            await self._start_grpc()
            if self._flags.rest_port is not None:
                self._start_rest(self._flags.rest_port)
            await self.manager.start(self._flags.models)
        except (ConfigurationError, RequestError) as error:
            await self.stop()
            raise ConfigurationError(str(error)) from error
        if self._flags.config_file and self._flags.config_poll_seconds:
            self._start_task(self._watch_config(self._flags.config_file))
        # What exists now lives as long as the process; the collections after a model is unloaded
        # need not traverse it.
        gc.freeze()

    async def stop(self) -> None:
        """Reports NOT_SERVING, refuses new requests and finishes those in flight."""
        await self._health.drain()
        if self._rest:
            self._rest.should_exit = True
        await self._grpc.stop(GRACE_SECONDS)
        if self._rest_task:
            await asyncio.wait([self._rest_task])
        for task in self._tasks:
            task.cancel()
        await self.manager.close()

    async def _start_grpc(self) -> None:
        flags = self._flags
        await self._health.set(False)
        if flags.port is not None:
            address = f"{flags.host}:{flags.port}"
            self.grpc_port = rpc.listen(self._grpc, address, flags.ssl)
            security = "TLS" if flags.ssl else "no TLS"
            logger.info("gRPC at %s:%d, %s", flags.host, self.grpc_port, security)
        if flags.socket_path:
            address = rpc.socket_address(flags.socket_path)
            rpc.listen(self._grpc, address, flags.ssl)
            logger.info("gRPC at %s", address)
        await self._grpc.start()

    def _start_rest(self, port: int) -> None:
        flags = self._flags
        try:
            listener = socket.create_server((flags.host, port))
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {flags.host}:{port}: {error}") from error
        self.rest_port = listener.getsockname()[1]
        options = uvicorn.Config(
            create_app(self.manager, self._metrics, flags),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=int(GRACE_SECONDS),
        )
        self._rest = _HttpServer(options)
        self._rest_task = asyncio.ensure_future(self._rest.serve([listener]))
        logger.info("REST at http://%s:%d", flags.host, self.rest_port)

    async def _watch_config(self, file: Path) -> None:
        """Applies the file of --model_config_file whenever it has changed."""
        applied: ModelServerConfig | None = self._flags.models
        last_error = ""
        while True:
            await asyncio.sleep(self._flags.config_poll_seconds)
            try:
                server_config = await asyncio.to_thread(config.read, file, ModelServerConfig)
                if server_config == applied:
                    continue
                # A configuration that fails may be applied in part, and is tried again.
                applied = None
                await self.manager.reconfigure(server_config)
                applied, last_error = server_config, ""
                logger.info("%s: applied", file)
            except (ConfigurationError, RequestError) as error:
                if str(error) != last_error:
                    logger.error("%s: %s", file, error)
                last_error = str(error)

    def _update_health(self) -> None:
        self._start_task(self._health.set(self.manager.ready()))

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
