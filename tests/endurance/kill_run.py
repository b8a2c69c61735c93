"""A process of the pipeline that is observed through its log and can be killed."""

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
"""Before the first step: imports, the lock, recovery of an earlier run."""
END: Final = "end"
"""After the last step."""
LAST_STEP: Final = "Report"
CHILD_TIMEOUT_SECONDS: Final = 30.0
"""Time that child processes have to end after a kill."""
RUN_TIMEOUT_SECONDS: Final = 1800.0
"""Time after which a run that does not end is considered hung."""
_POLL_SECONDS: Final = 0.02


class RunError(Exception):
    """A run that failed."""


class PipelineProcess:
    """A process of the pipeline, which is killed at the end of the block if it is still alive.

    Args:
        command: command line.
        root: root of the pipeline.
        temporary: folder for its temporary files.
        start: function that starts a process, with the arguments of `subprocess.Popen`.
    """

    def __init__(
        self,
        command: Sequence[str],
        root: Path,
        temporary: Path,
        start: Callable[..., Any] = subprocess.Popen,
    ):
        self._log = Log(root / "logs")
        self._earlier_events = len(self._log.events)
        self._output_file = temporary.with_name("output.txt")
        self._output_start = self._output_file.stat().st_size if self._output_file.exists() else 0
        with self._output_file.open("ab") as output:
            self._process = start(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(temporary)},
            )
        self._start_time = time.monotonic()
        self._step_starts = {START: 0.0}

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
        """The step that began last."""
        return list(self._step_starts)[-1]

    @property
    def status(self) -> int | None:
        """The exit status; None while the process runs."""
        return self._process.poll()

    @property
    def output(self) -> str:
        """The text that the process has printed."""
        with self._output_file.open("rb") as file:
            file.seek(self._output_start)
            return file.read().decode(errors="replace")

    @property
    def done(self) -> bool:
        """Whether the process has printed that the run is done; it may not have exited yet."""
        return "\ndone in " in self.output

    def finish(self) -> dict[str, float]:
        """Waits for the end of the run.

        Returns:
            Seconds by step.

        Raises:
            RunError: if the run fails.
        """
        while self._is_alive():
            time.sleep(_POLL_SECONDS)
        times = [*self._step_starts.values(), time.monotonic() - self._start_time]
        return {step: end - start for step, start, end in zip(self._step_starts, times, times[1:])}

    def wait_for_step(
        self, step: str, seconds: float, ready: Callable[[], bool] = lambda: True
    ) -> bool:
        """Waits until a number of seconds after the start of a step, and until `ready()` is true.

        Returns:
            False if the run ends before.

        Raises:
            RunError: if the run fails.
        """
        while self._is_alive():
            start = self._step_starts.get(step)
            elapsed = time.monotonic() - self._start_time
            if start is not None and elapsed >= start + seconds and ready():
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def wait(self) -> int:
        """Waits for the end of the process and returns its exit status."""
        return self._process.wait(RUN_TIMEOUT_SECONDS)

    def kill(self, number: int) -> tuple[float, list[str]]:
        """Sends a signal to the process, but not to its children, and waits for its end.

        Returns:
            Seconds until the process ended, and the command lines of its children that did not
            end by themselves afterwards.
        """
        children = psutil.Process(self._process.pid).children(recursive=True)
        start = time.monotonic()
        self._process.send_signal(number)
        self._process.wait(CHILD_TIMEOUT_SECONDS)
        seconds = time.monotonic() - start
        _, alive = psutil.wait_procs(children, CHILD_TIMEOUT_SECONDS)
        command_lines = [" ".join(child.cmdline()) for child in alive]
        for child in alive:
            child.kill()
        return seconds, command_lines

    def _is_alive(self) -> bool:
        self._log.update()
        for event in self._log.events[self._earlier_events :]:
            if event.kind == "running":
                self._enter(event.step)
            elif event.kind == "finished" and event.step == LAST_STEP:
                self._enter(END)
        status = self._process.poll()
        if status:
            tail = self._output_file.read_text(errors="replace")[-2000:]
            raise RunError(f"the run ended with {status}:\n{tail}")
        return status is None

    def _enter(self, step: str) -> None:
        self._step_starts.setdefault(step, time.monotonic() - self._start_time)
