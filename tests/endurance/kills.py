"""A run that is killed again and again, in every step, beside one that is left alone.

    python -m tests.endurance.kills --kills 30 --place scratch

Each kill takes the main process at a seeded moment of a step; its children have to end by
themselves. Then the same command is started again, and killed in the next step, until each step had
its turn and the run may end. What it made must be what the undisturbed run made, bit for bit:
training states, models, comparison and choice, and the version that was pushed.
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
from tests.endurance.kill_log import Log, repeated
from tests.endurance.kill_outcome import differences, strays
from tests.endurance.kill_run import Run

ROOT = Path(__file__).parents[2]
BUDGETS = "3,200"
MOST_SECONDS = 60.0
"""Of training that a kill may cost."""
STOP_SECONDS = 10.0
"""From SIGTERM or SIGINT to the end."""
GO_ON = "; to resume, run: python pipeline/run_local.py "


class Ladder:
    """A root whose run is killed, and what came of it.

    Args:
        place: folder for root and temporary files.
        flags: of the command, without root.

    Attributes:
        hit: the steps in which a run was killed.
        wrong: what was wrong with how runs ended, such as child processes that did not.
        said, status: what the last run printed, and its status.
        stops: seconds that runs took to end after a signal that asks them to.
        runs: how many were started.
        done: whether the last one had said that it is done, or ended by itself.
        start: what starts a process, as `subprocess.Popen` does.
    """

    def __init__(self, place: Path, flags: Sequence[str]):
        self.root, self.temporary = place / "root", place / "temporary"
        self.temporary.mkdir(parents=True)
        words = [sys.executable, str(ROOT / "pipeline" / "run_local.py"), *flags]
        self._command = [*words, "--root", str(self.root)]
        self.hit: list[str] = []
        self.wrong: list[str] = []
        self.stops: list[float] = []
        self.said, self.status = "", 0
        self.runs, self.done = 0, False
        self.start: Callable[..., Any] = subprocess.Popen

    def finish(self) -> dict[str, float]:
        """Runs to the end, unless it was done before it was killed.

        Returns:
            Seconds by step.
        """
        if self.done:
            return {}
        with self._run() as run:
            seconds = run.finish()
            self.said, self.status, self.done = run.said, 0, True
        return seconds

    def kill(
        self,
        step: str,
        seconds: float,
        *,
        ready: Callable[[], bool] = lambda: True,
        number: int = signal.SIGKILL,
    ) -> bool:
        """Kills a run some seconds after a step began; False if it ended before.

        Args:
            step: of which to wait for the beginning.
            seconds: to wait then.
            ready: what to wait for as well.
            number: signal that kills.
        """
        with self._run() as run:
            if not run.reach(step, seconds, ready):
                self.done = True
                return False
            self.hit.append(run.step)
            took, orphans = run.kill(number)
            self.wrong += [f"outlived a kill: {name}" for name in orphans]
            self.said, self.status, self.done = run.said, run.status, run.done
        if number != signal.SIGKILL and not self.done:
            self.stops.append(took)
            last = last_line(self.said)
            if self.status != 128 + number or GO_ON not in last:
                self.wrong.append(f"signal {number} in {run.step}: status {self.status}, {last}")
        return True

    def _run(self) -> Run:
        self.runs += 1
        return Run(self._command, self.root, self.temporary, self.start)


def photographs(folder: Path) -> Path:
    """Writes the sample photographs in 160x120 pixels."""
    folder.mkdir(parents=True)
    for name in (name for names in SPLITS.values() for name in names):
        image = Image.open(path_of(name)).convert("RGB").resize((160, 120))
        image.save(folder / f"{Path(name).stem}.png")
    return folder


def last_line(text: str) -> str:
    """Without what was said before."""
    return (text.splitlines() or [""])[-1]


def spread(steps: Sequence[str], kills: int) -> list[str]:
    """The steps in which a ladder is killed: all, or as many as there are kills."""
    number = min(kills, len(steps))
    return [steps[(2 * i + 1) * len(steps) // (2 * number)] for i in range(number)]


def verdict(ladder: Ladder, undisturbed: Path) -> list[str]:
    """What is wrong with a ladder that was killed and has ended, beside the root of one that was
    not."""
    wrong = differences(undisturbed, ladder.root)
    wrong += [f"stray: {path}" for path in strays(ladder.root, ladder.temporary)]
    wrong += ladder.wrong
    lost = repeated(Log(ladder.root / "logs").events)
    wrong += [
        f"{each.epochs} epochs of {each.trainer} again, {each.seconds:.0f} s"
        for each in lost
        if each.seconds > MOST_SECONDS
    ]
    wrong += [f"epoch {each.first} of {each.trainer} differs" for each in lost if not each.alike]
    return wrong


def report(ladders: Sequence[Ladder], wrong: Sequence[Sequence[str]], hits: str = "kills") -> str:
    """A table with a line for each ladder, and what is wrong.

    Args:
        ladders: that have ended.
        wrong: faults of each.
        hits: what they were hit by.
    """
    lines = [
        f"{'ladder':>6} {'hits':>5} {'steps':>5} {'runs':>4} {'again':>6} {'most s':>6}  wrong"
    ]
    for i, (ladder, faults) in enumerate(zip(ladders, wrong)):
        lost = repeated(Log(ladder.root / "logs").events)
        epochs = sum(each.epochs for each in lost)
        most = max((each.seconds for each in lost), default=0.0)
        lines.append(
            f"{i + 1:>6} {len(ladder.hit):>5} {len(set(ladder.hit)):>5} {ladder.runs:>4} "
            f"{epochs:>6} {most:>6.1f}  {len(faults) or 'nothing'}"
        )
        lines += [f"       {fault}" for fault in faults]
    hit = [step for ladder in ladders for step in ladder.hit]
    steps = list(dict.fromkeys(hit))
    lines.append(f"{hits} by step: {', '.join(f'{step} {hit.count(step)}' for step in steps)}")
    if stops := [seconds for ladder in ladders for seconds in ladder.stops]:
        lines.append(f"from the signal to the end: at most {max(stops):.1f} s")
    lines.append(
        f"{len(hit)} {hits} in {len(steps)} steps, {sum(ladder.runs for ladder in ladders)} runs, "
        f"{sum(map(len, wrong))} faults"
    )
    return "\n".join(lines)


def main() -> None:
    """Kills as often as it is told, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument("--budgets", default=BUDGETS)
    parser.add_argument("--place", type=Path, help="folder for all that is made; it is kept")
    parser.add_argument("--output", type=Path, help="file for the table")
    arguments = parser.parse_args()
    place = arguments.place or Path(tempfile.mkdtemp(prefix="kills-"))
    data = photographs(place / "images")
    flags = ["--data", str(data), "--budgets", arguments.budgets]
    undisturbed = Ladder(place / "undisturbed", flags)
    usual = undisturbed.finish()
    print(", ".join(f"{step} {seconds:.1f} s" for step, seconds in usual.items()), flush=True)
    chance = random.Random(arguments.seed)
    number = signal.Signals[f"SIG{arguments.signal}"]
    ladders: list[Ladder] = []
    wrong: list[list[str]] = []
    left = arguments.kills
    while left > 0:
        ladder = Ladder(place / f"ladder-{len(ladders) + 1}", flags)
        ladders.append(ladder)
        for step in spread(list(usual), left):
            share = chance.random()
            # One that is told to stop in its last moments may end before.
            if ladder.done or not ladder.kill(step, share * usual[step], number=number):
                break
            print(f"{ladder.hit[-1]:<20} killed at {share:.0%} of {step}", flush=True)
            left -= 1
        ladder.finish()
        wrong.append(verdict(ladder, undisturbed.root))
        slow = [seconds for seconds in ladder.stops if seconds > STOP_SECONDS]
        wrong[-1] += [f"{seconds:.1f} s from the signal to the end" for seconds in slow]
        print("\n".join(wrong[-1]) or "as undisturbed", flush=True)
    table = report(ladders, wrong)
    print(table)
    if arguments.output:
        # Imports Keras and its backend, which nothing else here needs.
        from benchmarks.machine import machine

        command = (
            f"python -m tests.endurance.kills --kills {arguments.kills} --seed {arguments.seed}"
        )
        command += f" --signal {arguments.signal}"
        arguments.output.write_text(f"$ {command}\n{machine()}\n{table}\n")
    if any(wrong):
        sys.exit(1)


if __name__ == "__main__":
    main()
