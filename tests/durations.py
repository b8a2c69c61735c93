"""What the files of tests take, by which they are ordered.

    make test ARGS=--junitxml=junit.xml && python -m tests.durations junit.xml

measures them anew.
"""

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

FILE = Path(__file__).with_name("durations.txt")
SLOW = 10
"""Seconds from which on a file is noted, and its tests are marked as slow."""


def read() -> dict[str, int]:
    """Seconds by file, the longest first."""
    rows = (line.split() for line in FILE.read_text().splitlines())
    return {path: int(seconds) for seconds, path in rows}


def write(junit: Path) -> None:
    """Notes what a run took."""
    seconds: Counter[str] = Counter()
    for case in ET.parse(junit).getroot().iter("testcase"):
        seconds[f"{case.attrib['classname'].replace('.', '/')}.py"] += float(case.attrib["time"])
    rows = [f"{round(took)} {path}\n" for path, took in seconds.most_common() if took >= SLOW]
    FILE.write_text("".join(rows))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
