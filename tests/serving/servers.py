"""Servers in a thread and in a process, a client for them, and SavedModels that load quickly."""

import asyncio
import contextlib
import dataclasses
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

from serving.server import flags
from serving.server.app import Server
from serving.wire import services
from serving.wire.protos import (
    GetModelMetadataRequest,
    GetModelStatusRequest,
    ModelSpec,
    ModelVersionStatus,
    PredictRequest,
    ReloadConfigRequest,
)
from serving.wire.tensors import to_array, to_proto

SECONDS = 240
LABELS_AHEAD = "--allow_version_labels_for_unavailable_models=true"
STATES = ModelVersionStatus.State


class Client:
    """The requests that tests send, over a real channel."""

    def __init__(self, channel: grpc.Channel):
        self.channel = channel
        self.prediction = services.stub(services.PREDICTION, channel)
        self.model = services.stub(services.MODEL, channel)

    def request(self, inputs=(), name="m", signature="", outputs=(), **spec) -> Any:
        """A PredictRequest; inputs are arrays, lists of bytes or TensorProtos."""
        request = PredictRequest(output_filter=outputs)
        request.model_spec.CopyFrom(model_spec(name, signature, **spec))
        for alias, value in dict(inputs).items():
            is_proto = hasattr(value, "tensor_shape")
            request.inputs[alias].CopyFrom(value if is_proto else to_proto(value))
        return request

    def predict(self, inputs, signature="reconstruct", **rest) -> SimpleNamespace:
        """Returns the outputs by name, and the `version` that answered."""
        request = self.request(inputs, signature=signature, **rest)
        answer = self.prediction.Predict(request, timeout=SECONDS)
        arrays = {name: to_array(proto) for name, proto in answer.outputs.items()}
        return SimpleNamespace(version=answer.model_spec.version.value, answer=answer, **arrays)

    def status(self, name="m", **spec) -> dict[int, str]:
        """Version -> state."""
        request = GetModelStatusRequest(model_spec=model_spec(name, **spec))
        answer = self.model.GetModelStatus(request, timeout=SECONDS)
        return {v.version: STATES.Name(v.state) for v in answer.model_version_status}

    def status_of(self, version, name="m") -> Any:
        """StatusProto of a version."""
        request = GetModelStatusRequest(model_spec=model_spec(name))
        answer = self.model.GetModelStatus(request, timeout=SECONDS)
        return next(v for v in answer.model_version_status if v.version == version).status

    def metadata(self, name="m", fields=("signature_def",), **spec) -> Any:
        request = GetModelMetadataRequest(
            model_spec=model_spec(name, **spec), metadata_field=fields
        )
        return self.prediction.GetModelMetadata(request, timeout=SECONDS)

    def reload(self, config) -> Any:
        request = ReloadConfigRequest(config=config)
        return self.model.HandleReloadConfigRequest(request, timeout=SECONDS)

    def wait_for(self, states: dict[int, str], name="m") -> None:
        """Waits until the versions are in these states."""

        def reached() -> bool:
            try:
                return states.items() <= self.status(name).items()
            except grpc.RpcError:
                return False

        wait_until(reached)


def model_spec(name="m", signature="", version=None, label=""):
    spec = ModelSpec(name=name, signature_name=signature)
    if version is not None:
        spec.version.value = version
    if label:
        spec.version_label = label
    return spec


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    pause = 0.01
    while not reached():
        assert time.monotonic() < deadline, f"not reached within {SECONDS} s"
        time.sleep(pause)
        # Frequent polling would slow the loading of a server in this process.
        pause = min(1.2 * pause, 0.25)


class Running:
    """A server that starts on an event loop of its own, in a thread."""

    def __init__(self, server_flags: flags.Flags):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.server = self.call(self._create(server_flags))
        self._starting = asyncio.run_coroutine_threadsafe(self.server.start(), self.loop)

    def wait(self) -> None:
        """Waits until it listens."""
        self._starting.result(SECONDS)
        self.grpc = f"127.0.0.1:{self.server.grpc_port}"
        self.rest = f"http://127.0.0.1:{self.server.rest_port}"

    async def _create(self, server_flags: flags.Flags) -> Server:
        return Server(server_flags)

    def call(self, work: Any) -> Any:
        """Runs a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(SECONDS)

    def close(self) -> None:
        self._starting.cancel()
        self.call(self.server.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(SECONDS)
        self.loop.close()


class Process:
    """A server in a process of its own.

    Attributes:
        grpc: "127.0.0.1:PORT".
        rest: "http://127.0.0.1:PORT".
        process: subprocess.Popen.
    """

    def __init__(self, folder: Path, grpc_port: int, rest_port: int, flags: tuple[str, ...]):
        self.grpc, self.rest = f"127.0.0.1:{grpc_port}", f"http://127.0.0.1:{rest_port}"
        self._log = folder / f"server-{grpc_port}.log"
        command = [sys.executable, "-m", "serving.server", f"--port={grpc_port}"]
        self._command = [*command, f"--rest_api_port={rest_port}", *flags]
        self.start()

    def start(self) -> None:
        """Starts the process, with an empty log."""
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=Path(__file__).parents[2],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        """The log so far."""
        return self._log.read_text()

    def wait_for(self, text: str, seconds: float = 120) -> None:
        """Waits until the log has a text; fails if the process ends before."""
        deadline = time.monotonic() + seconds
        while text not in self.log:
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not log {text!r}:\n{self.log}")
            time.sleep(0.05)

    def stop(self) -> int:
        """Sends SIGTERM, as Docker and Kubernetes do; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def started(argv: Sequence[str], **changes: Any) -> Iterator[Client]:
    """`starting`, once it listens, and a client of it with `running`."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with starting(argv, **changes) as running:
        running.wait()
        with grpc.insecure_channel(running.grpc, options) as channel:
            client = Client(channel)
            client.running = running
            yield client


@contextlib.contextmanager
def starting(
    argv: Sequence[str], poll: float = 0.05, retry: float = 0.05, **changes: Any
) -> Iterator[Running]:
    """A server with these flags on free ports in a thread."""
    server_flags = flags.parse(["--port=1", "--rest_api_port=2", *argv])
    manager = dataclasses.replace(server_flags.manager, poll_seconds=poll, retry_seconds=retry)
    changes = {"port": 0, "rest_port": 0, "manager": manager, **changes}
    running = Running(dataclasses.replace(server_flags, **changes))
    try:
        yield running
    finally:
        running.close()


def save_tiny(folder: Path, numbers: Sequence[int]) -> None:
    """Saves models that add their number to every pixel; `count` takes as long as wanted."""
    import tensorflow as tf

    class Tiny(tf.Module):
        def __init__(self, number: int):
            super().__init__()
            self.number = tf.Variable(number, dtype=tf.uint8)

        @tf.function(
            input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")]
        )
        def reconstruct(self, images):
            rows = tf.fill(tf.shape(images)[:1], tf.shape(images)[0])
            return {"reconstructions": images + self.number, "rows": rows}

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32, name="steps")])
        def count(self, steps):
            total = tf.while_loop(
                lambda i, _: i < steps[0], lambda i, t: (i + 1, t + 1), (0, tf.zeros_like(steps))
            )[1]
            return {"total": total + tf.cast(self.number, tf.int32)}

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32, name="values")])
        def positive(self, values):
            with tf.control_dependencies([tf.debugging.assert_positive(values, "not positive")]):
                return {"same": tf.identity(values)}

    for number in numbers:
        model = Tiny(number)
        signatures = {
            "reconstruct": model.reconstruct,
            "count": model.count,
            "positive": model.positive,
        }
        tf.saved_model.save(model, str(folder / str(number)), signatures=signatures)


PIXELS = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
