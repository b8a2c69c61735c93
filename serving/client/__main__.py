"""The client's command line: `python -m serving.client --help`."""

import os
import sys


def main() -> int:
    """Runs a command; returns the exit status."""
    # gRPC reads this when it is imported; its own lines would come between ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from serving.client.cli import commands

    return commands.main()


if __name__ == "__main__":
    sys.exit(main())
