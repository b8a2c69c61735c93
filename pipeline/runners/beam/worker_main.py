"""Beam's worker process, which answers though what it says cannot be written.

    python -m pipeline.runners.beam.worker_main MODULE

Beam prints an error before it sends it. Where its standard error is a file on a full disk that
would be another error, the answer would never be sent, and the run would wait for ever.
"""

import runpy
import sys
from contextlib import suppress
from typing import Any

from keras_ae import imports


class IgnoreWriteErrors:
    """A text stream that loses what cannot be written."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


if __name__ == "__main__":
    sys.stdout, sys.stderr = IgnoreWriteErrors(sys.stdout), IgnoreWriteErrors(sys.stderr)
    # Each worker comes to it by what it is sent.
    with imports.without(*imports.OPTIONAL):
        import tensorflow  # noqa: F401
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
