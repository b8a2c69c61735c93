"""The program that serves a model and compares its answers; it may begin before it is needed."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.runtime import tethered
from pipeline.runtime.fingerprint import ROOT

TIMEOUT = 300


class Check:
    """A program that serves a SavedModel, and waits for the file of the answers to compare.

    It finds our packages, and neither it nor its server outlives `close` or this process: on
    SIGTERM it stops its server.

    Args:
        command: of the program, see `ServingCheck`.
        saved_model: folder of the SavedModel.
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
        """What differs from the answers in an NPZ file, in a line; empty if nothing does."""
        try:
            line = f"{json.dumps(str(expected))}\n"
            _, errors = self._process.communicate(line, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            return f"the check of the served model did not end within {TIMEOUT} s"
        if self._process.returncode == 0:
            return ""
        lines = errors.strip().splitlines() or [f"exit status {self._process.returncode}"]
        return lines[-1].removeprefix("error: ")

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def close(self) -> None:
        """Ends it, and what it started."""
        status = self._process.poll()
        with self._process, suppress(ProcessLookupError):
            # One that was killed may have left its server; one that ended by itself has not.
            if status is None or status < 0:
                os.killpg(self._process.pid, signal.SIGKILL)


_command: list[str] = []
_begun: list[Check] = []


@contextmanager
def ahead(command: Sequence[str]) -> Iterator[None]:
    """Within the block `begin` starts this program, so that its server loads the model while other
    steps run; what nobody took is ended with the block.

    Args:
        command: of the program; empty for none.
    """
    _command[:] = command
    try:
        yield
    finally:
        _command.clear()
        close()


def begin(saved_model: Path) -> None:
    """Begins to serve the model that is going to be checked, where that is wanted and possible."""
    close()
    if _command:
        with suppress(OSError):
            _begun.append(Check(_command, saved_model))


@contextmanager
def running(command: Sequence[str], saved_model: Path) -> Iterator[Check]:
    """The program that has begun for this model, or one that begins now, while the block runs."""
    begun = [(each.command, each.saved_model) for each in _begun if not each.ended()]
    if begun != [(list(command), saved_model)]:
        close()
        _begun.append(Check(command, saved_model))
    try:
        yield _begun[0]
    finally:
        close()


def close() -> None:
    """Ends what has begun."""
    while _begun:
        _begun.pop().close()
