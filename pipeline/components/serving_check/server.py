"""The program that serves a model and compares its predictions; it can be started ahead of time."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.runtime import tethered
from pipeline.runtime.fingerprint import ROOT

TIMEOUT_SECONDS = 300


class Check:
    """A program that serves a SavedModel, and waits for a file of reconstructions to compare.

    Its command is that of `ServingCheck`; it can import the project's packages. Neither it nor its
    server outlives `close` or this process: on SIGTERM it stops its server.
    """

    def __init__(self, command: Sequence[str], saved_model: Path):
        self.command, self.saved_model = list(command), saved_model
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            tethered.command([*command, str(saved_model), "-"], signal.SIGTERM),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            start_new_session=True,
        )

    def compare(self, expected: Path) -> str:
        """What differs from the images in an NPZ file, in one line; empty if nothing does."""
        try:
            line = f"{json.dumps(str(expected))}\n"
            _, errors = self._process.communicate(line, timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            return f"the check of the served model did not end within {TIMEOUT_SECONDS} s"
        if self._process.returncode == 0:
            return ""
        lines = errors.strip().splitlines() or [f"exit status {self._process.returncode}"]
        return lines[-1].removeprefix("error: ")

    def serves(self, command: Sequence[str], saved_model: Path) -> bool:
        """Whether the program is this one for this model, and has not ended by itself."""
        same = (self.command, self.saved_model) == (list(command), saved_model)
        return same and self._process.poll() is None

    def close(self) -> None:
        """Ends the program, and the processes that it started."""
        status = self._process.poll()
        with self._process, suppress(ProcessLookupError):
            # A program that was killed may have left its server; one that exited has stopped it.
            if status is None or status < 0:
                os.killpg(self._process.pid, signal.SIGKILL)


_command: list[str] = []
_started: list[Check] = []
"""The program that was started and not stopped, if there is one."""


@contextmanager
def started_ahead(command: Sequence[str]) -> Iterator[None]:
    """Lets `start` start a program within the block, unless its command is empty.

    Its server then loads the model while other steps run. A program that is not used is stopped at
    the end of the block.
    """
    _command[:] = command
    try:
        yield
    finally:
        _command.clear()
        stop()


def start(saved_model: Path) -> None:
    """Starts the program of `started_ahead`, if there is one, for the model to be checked later."""
    stop()
    if _command:
        # The check starts the program again, and reports why it cannot.
        with suppress(OSError):
            _started.append(Check(_command, saved_model))


@contextmanager
def running(command: Sequence[str], saved_model: Path) -> Iterator[Check]:
    """Yields the program that was started for this model, or starts one; stops it at the end."""
    if not any(each.serves(command, saved_model) for each in _started):
        stop()
        _started.append(Check(command, saved_model))
    try:
        yield _started[0]
    finally:
        stop()


def stop() -> None:
    """Stops the program that was started, if there is one."""
    while _started:
        _started.pop().close()
