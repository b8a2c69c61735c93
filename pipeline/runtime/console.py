"""The project's own lines on the terminal, and everybody else's in a log file."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

_terminal: TextIO | None = None


def terminal() -> TextIO:
    """Where the project's own lines go, whatever the standard output is redirected to."""
    return _terminal or sys.stdout


def say(text: str = "") -> None:
    """Prints a line on the terminal."""
    print(text, file=terminal(), flush=True)


def hint(text: str) -> None:
    """Shows what is going on, on a screen only, until the next line takes its place."""
    if terminal().isatty():
        print(text, end="\r", file=terminal(), flush=True)


@contextmanager
def logs_to(path: Path) -> Iterator[None]:
    """Sends what the libraries print, from Python or C++, to a file, and keeps the terminal."""
    global _terminal
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with path.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    _terminal = os.fdopen(os.dup(kept[0]), "w")
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            # A full disk has no room for the rest of the log; the terminal is given back anyway.
            with suppress(OSError):
                stream.flush()
        for descriptor, place in zip(kept, (1, 2)):
            os.dup2(descriptor, place)
            os.close(descriptor)
        _terminal.close()
        _terminal = None
