"""Runs a command that ends when the process that starts it does, however that ends.

    python tethered.py PARENT SIGNAL COMMAND...

The command takes this process over, and the kernel sends it the signal when the thread that started
it is gone. That is Linux; elsewhere the command runs without. Imports nothing else of the project:
it is on the way of every child.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def command(words: Sequence[str], number: int = signal.SIGKILL) -> list[str]:
    """The command line that runs a command tethered to this process.

    Args:
        words: the command.
        number: signal that ends it; SIGTERM for one that has children of its own to stop.
    """
    # Isolated and without site-packages it is there in no time.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(number)), *words]


def main(argv: list[str]) -> None:
    """Becomes the command."""
    parent, number, *words = argv
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != int(parent):
            sys.exit(f"the process {parent} has ended")
    os.execvp(words[0], words)


if __name__ == "__main__":
    main(sys.argv[1:])
