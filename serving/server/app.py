"""Assembles the server and runs it until SIGTERM or SIGINT."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from keras_ae import imports
from keras_ae.errors import ConfigurationError
from serving.server import ports
from serving.server.errors import RequestError
from serving.server.flags import Flags
from serving.server.frontends import rpc
from serving.server.frontends.http_server import HttpServer, RateLimit
from serving.server.frontends.metrics import Metrics
from serving.server.frontends.rest import create_app
from serving.server.models import config
from serving.server.models.manager import Manager
from serving.wire.protos import ModelServerConfig

logger = logging.getLogger("serving.server")

GRACE_SECONDS = 25.0
"""Time for requests in flight after SIGTERM; Kubernetes sends SIGKILL after 30 s."""


def escape(record: logging.LogRecord) -> bool:
    """Escapes line breaks and control characters, so that a quoted name cannot forge a line."""
    text = record.getMessage()
    record.msg = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    record.args = ()
    return True


def run(flags: Flags) -> int:
    """Serves until SIGTERM or SIGINT, which end the process; returns 1 if it cannot serve."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(escape)
    logging.basicConfig(handlers=[handler], format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("uvicorn.error").addFilter(RateLimit())
    logger.setLevel(logging.INFO)
    for line in flags.without_effect:
        logger.warning("%s", line)
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
    starting = asyncio.ensure_future(server.start())
    stopping = asyncio.ensure_future(stop_requested.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
    await stopping
    starting.cancel()
    logger.info("stopping: requests in flight have %.0f s", GRACE_SECONDS)
    await server.drain()
    if flags.socket_path:
        Path(flags.socket_path.removeprefix("unix:")).unlink(missing_ok=True)
    logger.info("stopped")
    logging.shutdown()
    # Not `Server.stop`: gRPC would end requests that arrive now as CANCELLED, and Python would wait
    # for threads that still compute. When the process ends, clients see UNAVAILABLE, and retry.
    os._exit(0)


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
        self._calls = rpc.Calls()
        self._grpc = rpc.build(self.manager, self._metrics, self._health, self._calls, flags)
        self._rest: HttpServer | None = None
        self._rest_task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.grpc_port = self.rest_port = 0

    async def start(self) -> None:
        """Loads the models, and listens when each has an available version.

        Raises:
            ConfigurationError: if a model cannot be loaded, a label is assigned to a version, none
                of which is loaded yet, or the server cannot listen.
        """
        # What exists now lives as long as the process; the collections after a model is unloaded
        # need not traverse it.
        gc.freeze()
        flags = self._flags
        grpc_socket = rest_socket = None
        try:
            if flags.port is not None:
                grpc_socket = ports.bind(flags.host, flags.port)
            if flags.rest_port is not None:
                rest_socket = ports.bind(flags.host, flags.rest_port)
            await self.manager.start(self._flags.models)
            await self.manager.wait_until_available()
            if grpc_socket:
                # gRPC cannot take a socket over, only its port.
                grpc_socket.close()
            await self._start_grpc()
            if rest_socket:
                self._start_rest(rest_socket)
        except (ConfigurationError, RequestError) as error:
            await self.stop()
            raise ConfigurationError(str(error)) from error
        if self._flags.config_file and self._flags.config_poll_seconds:
            self._start_task(self._watch_config(self._flags.config_file))

    async def drain(self) -> None:
        """Reports NOT_SERVING, refuses new requests and finishes those in flight."""
        await self._health.drain()
        if self._rest:
            self._rest.should_exit = True
        await self._calls.drain(GRACE_SECONDS)
        if self._rest_task:
            await asyncio.wait([self._rest_task])

    async def stop(self) -> None:
        """Drains, and frees what a process that goes on would keep."""
        await self.drain()
        await self._grpc.stop(None)
        for task in self._tasks:
            task.cancel()
        await self.manager.close()

    async def _start_grpc(self) -> None:
        flags = self._flags
        await self._health.set(self.manager.ready())
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

    def _start_rest(self, bound: socket.socket) -> None:
        self.rest_port = ports.listen(bound)
        app = create_app(self.manager, self._metrics, self._flags)
        self._rest = HttpServer(app, GRACE_SECONDS)
        self._rest_task = asyncio.ensure_future(self._rest.serve([bound]))
        logger.info("REST at http://%s:%d", self._flags.host, self.rest_port)

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
