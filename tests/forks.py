"""A fork server: Python programs in forks of a process that has imported their modules.

A program that runs the pipeline spends most of its time on importing TensorFlow, Keras, TFX and
Beam. The fork server imports them once; each program is nevertheless a process of its own, with its
own arguments, environment, working directory, outputs and signals. The only difference is at its
end, where it skips Python's cleanup of the imported modules, which would take seconds.

Run as a module, this file is the fork server. It must not compute anything with TensorFlow: a fork
does not inherit the threads that TensorFlow starts for that.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MODULES = (
    "apache_beam.runners.direct.direct_runner",
    "apache_beam.runners.portability.fn_api_runner.fn_runner",
    "keras_ae.tuning.tuner",
    "matplotlib.pyplot",
    "pipeline.components.budget_comparison.executor",
    "pipeline.components.image_example_gen.executor",
    "pipeline.components.pusher.executor",
    "pipeline.components.report.executor",
    "pipeline.components.serving_check.executor",
    "pipeline.components.stage_trainer.executor",
    "pipeline.definition",
    "pipeline.preprocessing",
    "pipeline.runners.kubeflow.entrypoint",
    "pipeline.runners.local.runner",
    "pipeline.trainer",
    "pipeline.tuner",
    "tensorflow_model_analysis",
    "tfx.dsl.compiler.compiler",
    "tfx.orchestration.local.local_dag_runner",
)


class ForkedProcess:
    """A program in a fork, with a part of the interface of `subprocess.Popen`.

    Args:
        pipe: file descriptor from which the process ID and, at the end, the status are read.
    """

    def __init__(self, pipe: int):
        self._pipe = pipe
        self.pid = self._read_number()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status as that of `Popen`; None while the program runs."""
        if self.returncode is None and select.select([self._pipe], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end and returns the exit status."""
        if self.returncode is None:
            if not select.select([self._pipe], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(self._read_number())
            os.close(self._pipe)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless the program has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills the program, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _read_number(self) -> int:
        data = os.read(self._pipe, 8)
        if not data:
            raise ChildProcessError("the fork server has ended")
        return int.from_bytes(data, "little")


class ForkServer:
    """A fork server that has been started.

    Args:
        connection: socket to which requests are sent.
    """

    def __init__(self, connection: socket.socket):
        self._connection = connection

    def start(
        self,
        command: Sequence[str],
        *,
        stdout: Any,
        stderr: Any,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        before: str = "",
    ) -> ForkedProcess:
        """Starts a program.

        Args:
            command: as for `subprocess.Popen`: Python, then a script or `-m` and a module, then
                arguments.
            stdout, stderr: files for its outputs; for the latter also `subprocess.STDOUT`.
            cwd: its working directory; by default that of this process.
            env: its environment; by default that of this process.
            before: "module:name" of a function that is called in its process first.
        """
        _, *arguments = map(str, command)
        request = {
            "arguments": arguments,
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "before": before,
        }
        ours, theirs = os.pipe()
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(request).encode())
            file.flush()
            errors = stdout if stderr == subprocess.STDOUT else stderr
            descriptors = [file.fileno(), stdout.fileno(), errors.fileno(), theirs]
            socket.send_fds(self._connection, [b"."], descriptors)
            os.close(theirs)
            return ForkedProcess(ours)


@contextmanager
def fork_server(environment: Mapping[str, str]) -> Iterator[ForkServer]:
    """Starts a fork server, which ends with the block or with this process.

    Args:
        environment: environment variables in which it imports the modules.
    """
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "tests.forks", str(theirs.fileno())]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
    ) as process:
        theirs.close()
        with ours:
            yield ForkServer(ours)
    assert process.returncode == 0


def serve(connection: socket.socket) -> None:
    """Forks a program for each request; returns in the forks only, when a program has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Registered before the handlers of the imported modules, hence called after them.
    atexit.register(_exit_without_cleanup)
    before = dict(os.environ)
    for name in MODULES:
        importlib.import_module(name)
    # The variables that a program would have if it imported the modules itself.
    imported = {name: value for name, value in os.environ.items() if before.get(name) != value}
    gc.collect()
    gc.freeze()
    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, 1, 4)
        if not request:
            break
        if not os.fork():
            connection.close()
            _run_program(imported, *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
    # Waiting for the forks adds their processor time to that of the fork server.
    while True:
        try:
            os.wait()
        except ChildProcessError:
            os._exit(0)


def _run_program(
    imported: Mapping[str, str], request_file: int, stdout: int, stderr: int, pipe: int
) -> None:
    """Runs the program in a further fork, whose process ID and status this one writes to the pipe.

    Args:
        imported: environment variables that were set by imports.
        request_file, stdout, stderr, pipe: file descriptors.
    """
    pid = os.fork()
    if pid:
        os.write(pipe, pid.to_bytes(8, "little"))
        _, status = os.waitpid(pid, 0)
        os.write(pipe, status.to_bytes(8, "little"))
        os._exit(0)
    os.close(pipe)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, standard in ((stdout, 1), (stderr, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    with os.fdopen(request_file, "rb") as file:
        file.seek(0)
        request = json.load(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update({**request["env"], **imported})
    # The default folder depends on the environment and was cached by imports.
    tempfile.tempdir = None
    if request["before"]:
        module, _, name = request["before"].partition(":")
        getattr(importlib.import_module(module), name)()
    _run_main(request["arguments"])


_status = 1
"""Exit status; that of an uncaught exception until the program ends in another way."""


def _run_main(arguments: list[str]) -> None:
    """Runs a script, or a module after `-m`, as Python's command line does."""
    global _status
    first, *rest = arguments
    try:
        if first == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(first, run_name="__main__")
        _status = 0
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            _status = error.code or 0
        raise


def _exit_without_cleanup() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_status)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
