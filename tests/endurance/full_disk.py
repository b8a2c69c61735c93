"""A run whose disk is full again and again, in every step, beside one that has space.

    python -m tests.endurance.full_disk --place scratch

The root lies on a small disk in memory, for which mounting takes root. At a seeded moment of each
step the disk is filled to the last byte, until the run has ended; then there is space again, and
the same command goes on. A run must end with a line that says what it could not write, or, where
it had nothing more to write, as if nothing had been. What is made in the end must be what the
undisturbed run made, bit for bit.
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
from tests.endurance.kills import BUDGETS, Ladder, last_line, photographs, report, verdict

FULL = re.compile(
    r"^error: cannot .*: No space left on device; what earlier runs made is kept\n\Z", re.MULTILINE
)


class Crowded(Ladder):
    """A root on a disk that is filled while it runs, and what came of it.

    Args:
        place: folder whose `root` is the disk.
        flags: of the command, without root.

    Attributes:
        ended: step in which the disk was full, exit status and output of each run.
    """

    def __init__(self, place: Path, flags: Sequence[str]):
        super().__init__(place, flags)
        self.ended: list[tuple[str, int, str]] = []

    def crowd(self, step: str, seconds: float) -> bool:
        """Fills the disk some seconds after a step began, until the run has ended.

        Returns:
            False if the run ended before.
        """
        with self._run() as run:
            if not run.reach(step, seconds):
                self.done = True
                return False
            self.hit.append(run.step)
            with filled(self.root):
                status = run.wait()
            self.ended.append((run.step, status, run.said))
            self.done = status == 0
        if status not in (0, 1) or (status and not FULL.search(self.ended[-1][2])):
            self.wrong.append(f"full in {run.step}: status {status}, {last_line(run.said)}")
        return True


def main() -> None:
    """Fills the disk in each step, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budgets", default=BUDGETS)
    parser.add_argument("--size", default="512m", help="of the disk, as tmpfs takes it")
    parser.add_argument("--place", type=Path, help="folder for what is made on other disks")
    arguments = parser.parse_args()
    place = arguments.place or Path(tempfile.mkdtemp(prefix="full-disk-"))
    data = photographs(place / "images")
    flags = ["--data", str(data), "--budgets", arguments.budgets]
    crowded = place / "crowded"
    chance = random.Random(arguments.seed)
    try:
        with small_disk(crowded / "root", arguments.size):
            undisturbed = Ladder(place / "undisturbed", flags)
            usual = undisturbed.finish()
            ladder = Crowded(crowded, flags)
            for step in usual:
                # The end of a short one might be missed.
                share = chance.uniform(0, 0.5)
                if ladder.done or not ladder.crowd(step, share * usual[step]):
                    break
                at, _, said = ladder.ended[-1]
                print(f"{at:<20} full at {share:.0%} of {step}: {last_line(said)}", flush=True)
            ladder.finish()
            wrong = verdict(ladder, undisturbed.root)
            print(report([ladder], [wrong], "full disks"))
            print(f"not hit: {', '.join(step for step in usual if step not in ladder.hit) or '-'}")
    except pytest.skip.Exception as error:
        sys.exit(str(error))
    # Imports Keras and its backend, which nothing else here needs.
    from benchmarks.machine import machine

    print(machine())
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
