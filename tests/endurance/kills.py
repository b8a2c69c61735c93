"""A run that is killed repeatedly, in every step, compared with an uninterrupted one.

    python -m tests.endurance.kills --kills 30 --folder scratch

Each kill takes the main process at a seeded moment of a step; its children have to end by
themselves. Then the same command is started again and killed in the next step, until it was killed
in each step and may end. Its results must be those of the uninterrupted run, bit for bit: training
states, models, comparison and choice, and the pushed version.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from keras_ae.datasets.sources.sample_photos import SPLITS, path_of
from tests.endurance.kill_log import Log, RepeatedEpochs, find_repeated_epochs
from tests.endurance.kill_outcome import find_differences, find_stray_files
from tests.endurance.kill_run import PipelineProcess

ROOT = Path(__file__).parents[2]
BUDGETS = "3,200"
MAX_REPEATED_SECONDS = 60.0
"""Training that may have to be repeated after a kill."""
MAX_STOP_SECONDS = 10.0
"""Time from SIGTERM or SIGINT to the end of the process."""
RESUME = "; to resume, run: python pipeline/run_local.py "


class InterruptedRun:
    """A run that is interrupted and started again with the same command, in the same root.

    Args:
        folder: folder for the root and for temporary files.
        flags: flags of the command, without the root.

    Attributes:
        root, temporary: the run's folders.
        steps: step of each interruption.
        faults: descriptions of processes that did not end as they should.
        output, status: printed text and exit status of the last process.
        stop_seconds: times from a signal that asks for an end to the end.
        starts: number of processes that were started.
        done: whether the last process has printed that the run is done, or ended by itself.
        start: function that starts a process, with the arguments of `subprocess.Popen`.
    """

    def __init__(self, folder: Path, flags: Sequence[str]):
        self.root, self.temporary = folder / "root", folder / "temporary"
        self.temporary.mkdir(parents=True)
        program = [sys.executable, str(ROOT / "pipeline" / "run_local.py")]
        self._command = [*program, *flags, "--root", str(self.root)]
        self.steps: list[str] = []
        self.faults: list[str] = []
        self.stop_seconds: list[float] = []
        self.output = ""
        self.status: int | None = 0
        self.starts, self.done = 0, False
        self.start: Callable[..., Any] = subprocess.Popen

    def finish(self) -> dict[str, float]:
        """Runs to the end, unless the run is done.

        Returns:
            Seconds by step.
        """
        if self.done:
            return {}
        with self._start_process() as process:
            seconds = process.finish()
            self.output, self.status, self.done = process.output, 0, True
        return seconds

    def kill(
        self,
        step: str,
        seconds: float,
        *,
        ready: Callable[[], bool] = lambda: True,
        number: int = signal.SIGKILL,
    ) -> bool:
        """Starts the command and kills it a number of seconds after a step began.

        Args:
            step: name of the step.
            seconds: time from the beginning of the step to the signal.
            ready: further condition; the signal is sent when it returns true.
            number: number of the signal.

        Returns:
            False if the run ended before.
        """
        with self._start_process() as process:
            if not process.wait_for_step(step, seconds, ready):
                self.done = True
                return False
            self.steps.append(process.step)
            stop_seconds, orphans = process.kill(number)
            self.faults += [f"child process did not end: {command}" for command in orphans]
            self.output, self.status = process.output, process.status
            self.done = process.done
        if number != signal.SIGKILL and not self.done:
            self.stop_seconds.append(stop_seconds)
            line = last_line(self.output)
            if self.status != 128 + number or RESUME not in line:
                self.faults.append(
                    f"signal {number} in {process.step}: status {self.status}, {line}"
                )
        return True

    def repeated_epochs(self) -> list[RepeatedEpochs]:
        """Epochs that were trained again after an interruption."""
        return find_repeated_epochs(Log(self.root / "logs").events)

    def _start_process(self) -> PipelineProcess:
        self.starts += 1
        return PipelineProcess(self._command, self.root, self.temporary, self.start)


def write_photographs(folder: Path) -> Path:
    """Writes the sample photographs with 160x120 pixels and returns the folder."""
    folder.mkdir(parents=True)
    for name in (name for names in SPLITS.values() for name in names):
        image = Image.open(path_of(name)).convert("RGB").resize((160, 120))
        image.save(folder / f"{Path(name).stem}.png")
    return folder


def last_line(text: str) -> str:
    """The last line of a text, or "" if it is empty."""
    return (text.splitlines() or [""])[-1]


def choose_steps(steps: Sequence[str], kills: int) -> list[str]:
    """The steps in which a run is killed: all, or as many as there are kills, evenly spaced."""
    number = min(kills, len(steps))
    return [steps[(2 * i + 1) * len(steps) // (2 * number)] for i in range(number)]


def find_faults(run: InterruptedRun, uninterrupted: Path) -> list[str]:
    """Faults of an interrupted run that has ended, given the root of an uninterrupted one."""
    faults = find_differences(uninterrupted, run.root)
    faults += [f"stray file: {path}" for path in find_stray_files(run.root, run.temporary)]
    faults += run.faults
    for repeated in run.repeated_epochs():
        if repeated.seconds > MAX_REPEATED_SECONDS:
            faults.append(
                f"{repeated.epochs} epochs of {repeated.trainer} were repeated, "
                f"{repeated.seconds:.0f} s"
            )
        if not repeated.same_losses:
            faults.append(
                f"losses of {repeated.trainer} differ from epoch {repeated.first} when repeated"
            )
    return faults


def format_table(
    runs: Sequence[InterruptedRun], faults: Sequence[Sequence[str]], interruptions: str = "kills"
) -> str:
    """A table with a row for each run, its faults, and totals.

    Args:
        runs: runs that have ended.
        faults: faults of each run.
        interruptions: what the runs were interrupted by.
    """
    lines = [
        f"{'run':>3} {interruptions:>10} {'steps':>5} {'starts':>6} {'repeated epochs':>15} "
        f"{'max s':>6}  faults"
    ]
    for i, (run, run_faults) in enumerate(zip(runs, faults)):
        repeated = run.repeated_epochs()
        epochs = sum(item.epochs for item in repeated)
        max_seconds = max((item.seconds for item in repeated), default=0.0)
        lines.append(
            f"{i + 1:>3} {len(run.steps):>10} {len(set(run.steps)):>5} {run.starts:>6} "
            f"{epochs:>15} {max_seconds:>6.1f}  {len(run_faults) or 'none'}"
        )
        lines += [f"    {fault}" for fault in run_faults]
    all_steps = [step for run in runs for step in run.steps]
    steps = list(dict.fromkeys(all_steps))
    counts = ", ".join(f"{step} {all_steps.count(step)}" for step in steps)
    lines.append(f"{interruptions} by step: {counts}")
    if stop_seconds := [seconds for run in runs for seconds in run.stop_seconds]:
        lines.append(f"from the signal to the end: at most {max(stop_seconds):.1f} s")
    lines.append(
        f"{len(all_steps)} {interruptions} in {len(steps)} steps, "
        f"{sum(run.starts for run in runs)} starts, {sum(map(len, faults))} faults"
    )
    return "\n".join(lines)


def main() -> None:
    """Parses the command line, kills runs, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument("--budgets", default=BUDGETS)
    parser.add_argument("--folder", type=Path, help="for all files; it is not removed")
    parser.add_argument("--output", type=Path, help="file for the table")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="kills-"))
    data = write_photographs(folder / "images")
    flags = ["--data", str(data), "--budgets", arguments.budgets]
    uninterrupted = InterruptedRun(folder / "uninterrupted", flags)
    durations = uninterrupted.finish()
    print(", ".join(f"{step} {seconds:.1f} s" for step, seconds in durations.items()), flush=True)
    rng = random.Random(arguments.seed)
    number = signal.Signals[f"SIG{arguments.signal}"]
    runs: list[InterruptedRun] = []
    faults: list[list[str]] = []
    kills_left = arguments.kills
    while kills_left > 0:
        run = InterruptedRun(folder / f"run-{len(runs) + 1}", flags)
        runs.append(run)
        for step in choose_steps(list(durations), kills_left):
            share = rng.random()
            # A run that receives the signal in its last moments may end by itself before.
            if run.done or not run.kill(step, share * durations[step], number=number):
                break
            print(f"{run.steps[-1]:<20} killed at {share:.0%} of {step}", flush=True)
            kills_left -= 1
        run.finish()
        faults.append(find_faults(run, uninterrupted.root))
        slow = [seconds for seconds in run.stop_seconds if seconds > MAX_STOP_SECONDS]
        faults[-1] += [f"{seconds:.1f} s from the signal to the end" for seconds in slow]
        print("\n".join(faults[-1]) or "same results as the uninterrupted run", flush=True)
    table = format_table(runs, faults)
    print(table)
    if arguments.output:
        # Imports Keras and its backend, which nothing else here needs.
        from benchmarks.machine import machine

        command = (
            f"python -m tests.endurance.kills --kills {arguments.kills} --seed {arguments.seed}"
        )
        command += f" --signal {arguments.signal}"
        arguments.output.write_text(f"$ {command}\n{machine()}\n{table}\n")
    if any(faults):
        sys.exit(1)


if __name__ == "__main__":
    main()
