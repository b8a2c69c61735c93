"""A run whose disk is filled repeatedly, in every step, compared with one that has space.

    python -m tests.endurance.full_disk --folder scratch

The root is on a small disk in memory, whose mounting needs root privileges. At a seeded moment of
each step the disk is filled to the last byte, until the run has ended; then the space is freed and
the same command is started again. A run must end with a line that names the file that could not be
written, or, if it had nothing left to write, succeed. The results in the end must be those of the
uninterrupted run, bit for bit.
"""

import argparse
import random
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.disks import filled, small_disk
from tests.endurance.kills import (
    BUDGETS,
    InterruptedRun,
    find_faults,
    format_table,
    last_line,
    write_photographs,
)

NO_SPACE = re.compile(
    r"^error: cannot .*: No space left on device; what earlier runs made is kept\n\Z", re.MULTILINE
)


class FullDiskRun(InterruptedRun):
    """A run whose root is on a disk that is filled while it runs.

    Args:
        folder: folder whose `root` is the disk.
        flags: flags of the command, without the root.

    Attributes:
        ends: step in which the disk was filled, exit status and output of each process.
    """

    def __init__(self, folder: Path, flags: Sequence[str]):
        super().__init__(folder, flags)
        self.ends: list[tuple[str, int, str]] = []

    def fill_disk(self, step: str, seconds: float) -> bool:
        """Starts the command and fills the disk a number of seconds after a step began.

        Returns:
            False if the run ended before.
        """
        with self._start_process() as process:
            if not process.wait_for_step(step, seconds):
                self.done = True
                return False
            self.steps.append(process.step)
            with filled(self.root):
                status = process.wait()
            output = process.output
            self.ends.append((process.step, status, output))
            self.done = status == 0
        if status not in (0, 1) or (status and not NO_SPACE.search(output)):
            self.faults.append(f"full disk in {process.step}: status {status}, {last_line(output)}")
        return True


def main() -> None:
    """Parses the command line, fills the disk in each step, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budgets", default=BUDGETS)
    parser.add_argument("--size", default="512m", help="size of the disk in the syntax of tmpfs")
    parser.add_argument("--folder", type=Path, help="for all other files; it is not removed")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="full-disk-"))
    data = write_photographs(folder / "images")
    flags = ["--data", str(data), "--budgets", arguments.budgets]
    rng = random.Random(arguments.seed)
    try:
        with small_disk(folder / "interrupted" / "root", arguments.size):
            uninterrupted = InterruptedRun(folder / "uninterrupted", flags)
            durations = uninterrupted.finish()
            run = FullDiskRun(folder / "interrupted", flags)
            for step in durations:
                # In its second half a short step might end before the disk is full.
                share = rng.uniform(0, 0.5)
                if run.done or not run.fill_disk(step, share * durations[step]):
                    break
                filled_step, _, output = run.ends[-1]
                print(
                    f"{filled_step:<20} full at {share:.0%} of {step}: {last_line(output)}",
                    flush=True,
                )
            run.finish()
            faults = find_faults(run, uninterrupted.root)
            print(format_table([run], [faults], "full disks"))
            missed = [step for step in durations if step not in run.steps]
            print(f"steps without a full disk: {', '.join(missed) or 'none'}")
    except pytest.skip.Exception as error:
        sys.exit(str(error))
    # Imports Keras and its backend, which nothing else here needs.
    from benchmarks.machine import machine

    print(machine())
    if faults:
        sys.exit(1)


if __name__ == "__main__":
    main()
