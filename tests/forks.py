"""Python programs in processes forked off one that has imported what they need.

Of a program that runs the pipeline, the imports of TensorFlow, Keras, TFX and Beam are most. Here
they are done once; each program is a process of its own nevertheless, with its own arguments,
environment, folder, outputs and signals. It ends as any other, except that Python does not take
apart what was imported, which would take seconds.

Run as a module, this file is the process that forks. It computes nothing itself: what TensorFlow
starts for that, threads above all, would be lacking in a fork.
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
IMPORTED = (
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


class Forked:
    """A program that was started, with what `subprocess.Popen` has of that."""

    def __init__(self, answers: int):
        self._answers = answers
        self.pid = self._number()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status as `Popen` has it, None while it runs."""
        if self.returncode is None and select.select([self._answers], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end, and returns the exit status."""
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(self._number())
            os.close(self._answers)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it is still there."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it."""
        self.send_signal(signal.SIGKILL)

    def _number(self) -> int:
        told = os.read(self._answers, 8)
        if not told:
            raise ChildProcessError("what forks programs has ended")
        return int.from_bytes(told, "little")


class Forks:
    """A process that forks programs.

    Args:
        server: the socket that it listens to.
    """

    def __init__(self, server: socket.socket):
        self._server = server

    def start(
        self,
        words: Sequence[str],
        *,
        stdout: Any,
        stderr: Any,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        before: str = "",
    ) -> Forked:
        """Starts a program.

        Args:
            words: as for `subprocess.Popen`: Python, and a script or `-m` and a module, and
                arguments.
            stdout, stderr: files for what it prints; for the latter also `subprocess.STDOUT`.
            cwd: folder that it starts in; by default that of this process.
            env: its environment; by default that of this process.
            before: a function that is called in its process at first, as "module:name".
        """
        _, *words = map(str, words)
        told = {"words": words, "cwd": str(cwd or Path.cwd()), "before": before}
        told["env"] = dict(os.environ if env is None else env)
        ours, theirs = os.pipe()
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(told).encode())
            file.flush()
            errors = stdout if stderr == subprocess.STDOUT else stderr
            passed = [file.fileno(), stdout.fileno(), errors.fileno(), theirs]
            socket.send_fds(self._server, [b"."], passed)
            os.close(theirs)
            return Forked(ours)


@contextmanager
def forking(environment: Mapping[str, str]) -> Iterator[Forks]:
    """Starts the process that forks; it ends with the block, or with this process.

    Args:
        environment: in which it imports.
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
            yield Forks(ours)
    assert process.returncode == 0


def _serve(server: socket.socket) -> None:
    """Forks as it is asked to; only the forks return, each in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What is registered first is called last.
    atexit.register(_leave)
    before = dict(os.environ)
    for name in IMPORTED:
        importlib.import_module(name)
    # As importing them would do to the environment of each program.
    imported = {name: value for name, value in os.environ.items() if before.get(name) != value}
    gc.collect()
    gc.freeze()
    while True:
        asked, passed, _, _ = socket.recv_fds(server, 1, 4)
        if not asked:
            break
        if not os.fork():
            server.close()
            _keep(imported, *passed)
            return
        for descriptor in passed:
            os.close(descriptor)
    # What they took counts as taken by this one.
    while True:
        try:
            os.wait()
        except ChildProcessError:
            os._exit(0)


def _keep(
    imported: Mapping[str, str], request: int, stdout: int, stderr: int, answers: int
) -> None:
    """Forks the program, which returns, and waits for its end."""
    pid = os.fork()
    if pid:
        os.write(answers, pid.to_bytes(8, "little"))
        _, status = os.waitpid(pid, 0)
        os.write(answers, status.to_bytes(8, "little"))
        os._exit(0)
    os.close(answers)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, place in ((stdout, 1), (stderr, 2)):
        os.dup2(descriptor, place)
        os.close(descriptor)
    with os.fdopen(request, "rb") as file:
        file.seek(0)
        told = json.load(file)
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update({**told["env"], **imported})
    # It is looked up anew.
    tempfile.tempdir = None
    if told["before"]:
        module, _, name = told["before"].partition(":")
        getattr(importlib.import_module(module), name)()
    _become(told["words"])


_status = 1
"""Of a program that ends by an error."""


def _become(words: list[str]) -> None:
    """Runs a script, or `-m` and a module, as Python does."""
    global _status
    first, *rest = words
    try:
        if first == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(first, run_name="__main__")
        _status = 0
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            _status = ended.code or 0
        raise


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_status)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
