"""Runs the server: `python -m serving.server --help`."""

import os
import sys


def main() -> int:
    """Reads the flags, then serves until SIGTERM or SIGINT; returns the exit status."""
    # Before anything loads TensorFlow.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from serving.server import flags

    parsed = flags.parse()
    from serving.server import app

    return app.run(parsed)


if __name__ == "__main__":
    sys.exit(main())
