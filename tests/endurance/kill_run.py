"""A run of the pipeline that is watched through its log, and may be killed."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil

from tests.endurance.kill_log import Log

START: Final = "start"
"""Before the first step: imports, the lock, putting in order what was left."""
END: Final = "end"
"""Behind the last one."""
LAST: Final = "Report"
SECONDS: Final = 30.0
"""That children may take to end."""
PATIENCE: Final = 1800.0
"""Seconds until a run that does not end counts as hung."""
_POLL: Final = 0.02


class RunError(Exception):
    """A run that failed."""


class Run:
    """A process of the pipeline, ended at the latest with the block.

    Args:
        command: the words of its command line.
        root: of the pipeline.
        temporary: its folder for temporary files.
        start: what starts a process, as `subprocess.Popen` does.
    """

    def __init__(
        self,
        command: Sequence[str],
        root: Path,
        temporary: Path,
        start: Callable[..., Any] = subprocess.Popen,
    ):
        self._log = Log(root / "logs")
        self._old = len(self._log.events)
        self._output = temporary.with_name("output.txt")
        self._at = self._output.stat().st_size if self._output.exists() else 0
        with self._output.open("ab") as output:
            self._process = start(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(temporary)},
            )
        self._began = time.monotonic()
        self._since = {START: 0.0}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def step(self) -> str:
        """Where it is."""
        return list(self._since)[-1]

    @property
    def status(self) -> int | None:
        """Its exit status, once it has one."""
        return self._process.poll()

    @property
    def said(self) -> str:
        """What it has printed."""
        with self._output.open("rb") as output:
            output.seek(self._at)
            return output.read().decode(errors="replace")

    @property
    def done(self) -> bool:
        """Whether it has said that it is done; what follows is the end of its process."""
        return "\ndone in " in self.said

    def finish(self) -> dict[str, float]:
        """Waits for the end.

        Returns:
            Seconds by step.

        Raises:
            RunError: if it fails.
        """
        while self._alive():
            time.sleep(_POLL)
        times = [*self._since.values(), time.monotonic() - self._began]
        return {step: after - at for step, at, after in zip(self._since, times, times[1:])}

    def reach(self, step: str, seconds: float, ready: Callable[[], bool] = lambda: True) -> bool:
        """Waits until a step began some seconds ago and more is ready; False if the run ends.

        Raises:
            RunError: if it fails.
        """
        while self._alive():
            at = self._since.get(step)
            if at is not None and time.monotonic() - self._began >= at + seconds and ready():
                return True
            time.sleep(_POLL)
        return False

    def wait(self) -> int:
        """Waits for the end, whatever it is, and returns the exit status."""
        return self._process.wait(PATIENCE)

    def kill(self, number: int) -> tuple[float, list[str]]:
        """Kills the process alone, and waits for its end.

        Returns:
            Seconds until it ended, and the command lines of its children that have not ended by
            themselves soon after.
        """
        children = psutil.Process(self._process.pid).children(recursive=True)
        began = time.monotonic()
        self._process.send_signal(number)
        self._process.wait(SECONDS)
        seconds = time.monotonic() - began
        _, alive = psutil.wait_procs(children, SECONDS)
        names = [" ".join(child.cmdline()) for child in alive]
        for child in alive:
            child.kill()
        return seconds, names

    def _alive(self) -> bool:
        self._log.update()
        for event in self._log.events[self._old :]:
            if event.kind == "running":
                self._enter(event.step)
            elif event.kind == "finished" and event.step == LAST:
                self._enter(END)
        status = self._process.poll()
        if status:
            tail = self._output.read_text(errors="replace")[-2000:]
            raise RunError(f"the run ended with {status}:\n{tail}")
        return status is None

    def _enter(self, step: str) -> None:
        self._since.setdefault(step, time.monotonic() - self._began)
