"""Time and memory that each hostile file of the tests takes, in descending order.

    python -m tests.endurance.hostile_files
    python -m tests.endurance.hostile_files --worst 40

Each file of the folder and each archive, array and table is read, checked and, if it is good,
converted to an example, one after the other in a process that has decoded others before. Memory is
the peak of the process beyond its memory before. The last lines count the quarantined, skipped and
refused files.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.machine import machine
from tests.corpus import files, sources, write
from tests.corpus.entries import ACCEPTED, SKIPPED

MB = 1e6


def main() -> None:
    """Parses the command line, measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m tests.endurance.hostile_files")
    parser.add_argument("--worst", type=int, default=15, help="number of files that are listed")
    worst = parser.parse_args().worst
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        program = (sys.executable, "-m", "tests.corpus.measure", folder)
        completed = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True)
    costs = [json.loads(line) for line in completed.stdout.splitlines()]
    print(machine())
    for key, heading, unit in (("seconds", "seconds", 1), ("bytes", "MB", MB)):
        print(f"\n{heading:>8}")
        for cost in sorted(costs, key=lambda cost: -cost[key])[:worst]:
            print(f"{cost[key] / unit:8.2f}  {cost['file']}")
    outcomes = Counter(
        file.expected if file.expected in (ACCEPTED, SKIPPED) else "quarantined" for file in files()
    )
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    print(f"\n{len(files())} files: {counts}")
    refused = sum(bool(source.refused) for source in sources())
    print(f"{len(sources())} archives, arrays and tables: {refused} refused as a whole")


if __name__ == "__main__":
    main()
