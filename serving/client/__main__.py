"""The client's command line: `python -m serving.client --help`, or `keras-ae-client --help`."""

import os
import sys


def main(prog: str | None = None) -> int:
    """Runs a command; returns the exit status.

    Args:
        prog: name of the program in the usage message; by default that of `sys.argv[0]`.
    """
    # gRPC reads this when it is imported. Otherwise its log lines would mix with our messages.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from .cli import commands

    return commands.main(prog=prog)


if __name__ == "__main__":
    sys.exit(main(f"python -m {__package__}"))
