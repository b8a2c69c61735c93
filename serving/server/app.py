"""Puts the server together and runs it until it is told to stop."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvicorn

from keras_ae import imports
from keras_ae.errors import ConfigurationError
from serving.server.core import RequestError
from serving.server.flags import Flags
from serving.server.frontends import rpc
from serving.server.frontends.metrics import Metrics
from serving.server.frontends.rest import create_app
from serving.server.models import config
from serving.server.models.manager import Manager

logger = logging.getLogger("serving.server")

GRACE_SECONDS = 25.0
"""For requests in flight after SIGTERM; Kubernetes kills after 30."""


def run(flags: Flags) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logger.setLevel(logging.INFO)
    logger.info("TensorFlow computes on: %s", _start_tensorflow(flags))
    try:
        asyncio.run(_until_signalled(flags))
    except ConfigurationError as error:
        logger.error("%s", error)
        return 1
    return 0


def _start_tensorflow(flags: Flags) -> str:
    """Imports it and finds its devices; returns their types.

    What it writes before it reads its own log level, and about devices that are not there, is
    left out.
    """
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        # Keras is for models in Python; one that was saved needs none.
        with imports.hide_packages("keras", *imports.OPTIONAL_PACKAGES):
            import tensorflow as tf
        tf.config.threading.set_intra_op_parallelism_threads(flags.intra_op_threads)
        tf.config.threading.set_inter_op_parallelism_threads(flags.inter_op_threads)
        # On processors its passes over a graph take a model most of the time until it is ready, and
        # give an image nothing back; only `score` would be a quarter faster with them.
        if not tf.config.list_physical_devices("GPU"):
            tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        devices = tf.config.list_logical_devices()
        return ", ".join(sorted({device.device_type for device in devices}))
    finally:
        os.dup2(kept, 2)
        os.close(kept)


async def _until_signalled(flags: Flags) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(flags)
    await server.start()
    await stop.wait()
    logger.info("stopping: requests in flight have %.0f s", GRACE_SECONDS)
    await server.stop()
    # asyncio.run waits for the threads of the one that it finds.
    loop.set_default_executor(ThreadPoolExecutor(1))
    logger.info("stopped")


class _Rest(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to us."""
        yield


class Server:
    """Everything that the flags ask for, on one event loop.

    Attributes:
        core: the models.
        grpc_port: that gRPC is bound to; 0 for none.
        rest_port: that REST is bound to; 0 for none.
    """

    def __init__(self, flags: Flags):
        self._flags = flags
        self._health = rpc.Health()
        self.core = Manager(flags.manager, flags.batching, self._update_health)
        self._metrics = Metrics(self.core.models)
        self._grpc: Any = None
        self._rest: _Rest | None = None
        self._serving_rest: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.grpc_port = self.rest_port = 0

    async def start(self) -> None:
        """Listens, and begins to load.

        Raises:
            ConfigurationError: if a port or a socket cannot be had.
        """
        try:
            await self._start_grpc()
            if self._flags.rest_port is not None:
                self._start_rest(self._flags.rest_port)
        except ConfigurationError:
            await self.stop()
            raise
        await self.core.start(self._flags.models)
        if self._flags.config_file and self._flags.config_poll_seconds:
            self._start_task(self._reread_config(self._flags.config_file))
        # What is there now stays; freeing a model need not look through it.
        gc.freeze()

    async def stop(self) -> None:
        """Says NOT_SERVING, takes no new requests, finishes those in flight, and lets go."""
        await self._health.drain()
        if self._rest:
            self._rest.should_exit = True
        await self._grpc.stop(GRACE_SECONDS)
        if self._serving_rest:
            await asyncio.wait([self._serving_rest])
        for task in self._tasks:
            task.cancel()
        await self.core.close()

    async def _start_grpc(self) -> None:
        flags = self._flags
        await self._health.set(False)
        self._grpc = rpc.build(
            self.core,
            self._metrics,
            self._health,
            max_message_bytes=flags.max_message_bytes,
            arguments=flags.channel_arguments,
        )
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
            listening = socket.create_server((flags.host, port))
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {flags.host}:{port}: {error}") from error
        self.rest_port = listening.getsockname()[1]
        app = create_app(
            self.core,
            self._metrics,
            metrics_path=flags.metrics_path,
            timeout_seconds=flags.rest_timeout,
            max_body_bytes=flags.max_message_bytes,
        )
        self._rest = _Rest(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=int(GRACE_SECONDS),
            )
        )
        self._serving_rest = asyncio.ensure_future(self._rest.serve([listening]))
        logger.info("REST at http://%s:%d", flags.host, self.rest_port)

    async def _reread_config(self, file: Path) -> None:
        current: Any = self._flags.models
        said = ""
        while True:
            await asyncio.sleep(self._flags.config_poll_seconds)
            try:
                found = await asyncio.to_thread(config.read, file, config.ModelServerConfig)
                if found == current:
                    continue
                # One that fails may be in force in part, and is tried again.
                current = None
                await self.core.reconfigure(found)
                current, said = found, ""
                logger.info("%s: in force", file)
            except (ConfigurationError, RequestError) as error:
                if str(error) != said:
                    logger.error("%s: %s", file, error)
                said = str(error)

    def _update_health(self) -> None:
        self._start_task(self._health.set(self.core.ready()))

    def _start_task(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
