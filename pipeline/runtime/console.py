"""The project's own lines on the terminal, and the libraries' output in a log file."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

_terminal: TextIO | None = None


def terminal() -> TextIO:
    """The stream for the project's own lines, also where standard output is redirected."""
    return _terminal or sys.stdout


def say(text: str = "") -> None:
    """Prints a line on the terminal."""
    print(text, file=terminal(), flush=True)


def hint(text: str) -> None:
    """Shows a line until the next one overwrites it. Only a screen shows it, not a file."""
    if terminal().isatty():
        print(text, end="\r", file=terminal(), flush=True)


@contextmanager
def logs_to(path: Path) -> Iterator[None]:
    """Redirects standard output and error to a file; `say` and `hint` still use the terminal.

    The file descriptors are replaced and not only Python's streams, because C++ code and child
    processes write to the descriptors.
    """
    global _terminal
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    originals = os.dup(1), os.dup(2)
    with path.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    _terminal = os.fdopen(os.dup(originals[0]), "w")
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            # On a full disk the rest of the log is lost; the terminal must be restored anyway.
            with suppress(OSError):
                stream.flush()
        for original, descriptor in zip(originals, (1, 2)):
            os.dup2(original, descriptor)
            os.close(original)
        _terminal.close()
        _terminal = None
