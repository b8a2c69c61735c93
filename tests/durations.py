"""Durations of test files, by which the files are ordered.

    make test ARGS=--junitxml=junit.xml && python -m tests.durations junit.xml

measures them again.
"""

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

FILE = Path(__file__).with_name("durations.txt")
SLOW_SECONDS = 10
"""Duration from which a file is listed, and its tests are marked as slow."""


def read() -> dict[str, int]:
    """Seconds by file, in descending order."""
    rows = (line.split() for line in FILE.read_text().splitlines())
    return {path: int(seconds) for seconds, path in rows}


def write(junit: Path) -> None:
    """Writes the durations of the slow files in a JUnit report."""
    seconds: Counter[str] = Counter()
    for case in ET.parse(junit).getroot().iter("testcase"):
        seconds[f"{case.attrib['classname'].replace('.', '/')}.py"] += float(case.attrib["time"])
    slow = [(path, total) for path, total in seconds.most_common() if total >= SLOW_SECONDS]
    FILE.write_text("".join(f"{round(total)} {path}\n" for path, total in slow))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
