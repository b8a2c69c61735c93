"""The client's command line: `python -m serving.client --help`, or `keras-ae-client --help`."""

import os
import sys


def main(prog: str | None = None) -> int:
    """Runs a command; returns the exit status.

    Args:
        prog: how it was started, for its usage; the name of the program by default.
    """
    # gRPC reads this when it is imported; its own lines would come between ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from .cli import commands

    return commands.main(prog=prog)


if __name__ == "__main__":
    sys.exit(main(f"python -m {__package__}"))
