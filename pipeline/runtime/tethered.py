"""Runs a command that ends when the process that starts it does, however that ends.

    python tethered.py PARENT SIGNAL COMMAND...

The command replaces this process (`exec`), and the kernel sends it the signal when the thread that
started it has ended (`PR_SET_PDEATHSIG`, see prctl(2)). Only Linux has this; elsewhere the command
runs without it. This file imports nothing else of the project, because every child process begins
with it.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def command(words: Sequence[str], number: int = signal.SIGKILL) -> list[str]:
    """The command line that runs a command tethered to this process.

    `number` is the signal that ends it: SIGTERM for one that has to stop children of its own.
    """
    # Python starts fastest in isolated mode and without site-packages.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(number)), *words]


def main(argv: list[str]) -> None:
    """Becomes the command."""
    parent, number, *words = argv
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
        # A parent that ended before the call above sends no signal any more.
        if os.getppid() != int(parent):
            sys.exit(f"the process {parent} has ended")
    os.execvp(words[0], words)


if __name__ == "__main__":
    main(sys.argv[1:])
