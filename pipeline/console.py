"""The project's own lines on the terminal, and everybody else's in a log file."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_streams: dict[str, TextIO] = {}


def terminal() -> TextIO:
    """Where the project's own lines go, whatever the standard output is redirected to."""
    return _streams.get("stdout", sys.stdout)


def say(text: str = "") -> None:
    """Prints a line on the terminal."""
    print(text, file=terminal(), flush=True)


def complain(text: str) -> None:
    """Prints a line on the terminal's standard error."""
    print(text, file=_streams.get("stderr", sys.stderr), flush=True)


@contextmanager
def logs_to(path: Path) -> Iterator[None]:
    """Sends what the libraries print, from Python or C++, to a file, and keeps the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {name: os.dup(fd) for name, fd in (("stdout", 1), ("stderr", 2))}
    with path.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    _streams.update({name: os.fdopen(os.dup(fd), "w") for name, fd in kept.items()})
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept["stdout"], 1)
        os.dup2(kept["stderr"], 2)
        for fd in kept.values():
            os.close(fd)
        _streams.clear()
