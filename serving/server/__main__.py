"""Runs the server: `python -m serving.server --help`."""

import logging
import os
from typing import NoReturn


def main() -> NoReturn:
    """Parses the flags, serves until SIGTERM or SIGINT, and ends the process."""
    # TensorFlow reads this when it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from serving.server import flags

    parsed = flags.parse()
    from serving.server import app

    status = app.run(parsed)
    logging.shutdown()
    # Python would wait for threads that still load other models.
    os._exit(status)


if __name__ == "__main__":
    main()
