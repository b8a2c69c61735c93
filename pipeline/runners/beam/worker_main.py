"""Beam's worker process, which answers even when it cannot write to its log.

    python -m pipeline.runners.beam.worker_main MODULE

Replaces: `sys.stdout` and `sys.stderr` of the module, `apache_beam.runners.worker.sdk_worker_main`.
Written for: apache-beam 2.77.0.
Reason: `sdk_worker.SdkHarness._execute` prints the traceback of an instruction that failed before
    it sends the error. Where standard error is a file on a full disk, the print raises, the answer
    is never sent, and the runner waits for ever.
Remove when: Beam sends the error first, or ignores that it cannot be printed.

This is a module of its own, apart from `pipeline.runners.beam_patches`, because it is imported in
each worker process of each step and so must import next to nothing.
"""

import runpy
import sys
from contextlib import suppress
from typing import Any

from keras_ae import imports


class IgnoreWriteErrors:
    """A text stream that drops what cannot be written."""

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
    # The steps that a worker gets import TensorFlow in any case. This import is faster.
    with imports.hide_packages(*imports.OPTIONAL_PACKAGES):
        import tensorflow  # noqa: F401
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
