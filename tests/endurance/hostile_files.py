"""What each hostile file of the tests costs: seconds and memory, the worst first.

    python -m tests.endurance.hostile_files
    python -m tests.endurance.hostile_files --worst 40

Each file of the folder and each archive is read, checked and, where it is good, made an example,
one after the other in a process that decoded others before. Memory is what the process holds at its
peak beyond what it held before. The last lines say how many were quarantined, skipped or refused.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.machine import machine
from tests.corpus import archives, files, write
from tests.corpus.entries import ARRIVES, SKIPPED

MB = 1e6


def main() -> None:
    """Reads the command line, measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m tests.endurance.hostile_files")
    parser.add_argument("--worst", type=int, default=15, help="files that are listed")
    worst = parser.parse_args().worst
    with tempfile.TemporaryDirectory() as place:
        write(Path(place))
        program = (sys.executable, "-m", "tests.corpus.measure", place)
        done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    print(machine())
    for key, unit in (("seconds", 1), ("bytes", MB)):
        print(f"\n{'MB' if key == 'bytes' else key:>8}")
        for line in sorted(lines, key=lambda line: -line[key])[:worst]:
            print(f"{line[key] / unit:8.2f}  {line['file']}")
    kinds = Counter(
        file.expected if file.expected in (ARRIVES, SKIPPED) else "quarantined" for file in files()
    )
    print(f"\n{len(files())} files: {', '.join(f'{n} {kind}' for kind, n in kinds.items())}")
    refused = sum(bool(archive.refused) for archive in archives())
    print(f"{len(archives())} archives: {refused} refused as a whole")


if __name__ == "__main__":
    main()
