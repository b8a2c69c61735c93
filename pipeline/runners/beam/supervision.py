"""Beam's worker processes: the death of one is noticed, and their errors are told as one's own."""

import re
import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    BeamFnControlServicer,
    SubprocessSdkWorkerHandler,
)

from keras_ae import errors
from keras_ae.errors import KerasAEError, StorageError
from pipeline.runtime import tethered

_ERROR = re.compile(r"^(?:[\w.]+: )?(?:\w+\.)*(\w+(?:Error|Exception)): (\S.*)$", re.MULTILINE)
_STEP = re.compile(r" \[while running .*$")


@contextmanager
def watched() -> Iterator[None]:
    """Ends a pipeline one of whose worker processes died; Beam itself would wait for ever.

    The processes end with this one, too.
    """
    start = SubprocessSdkWorkerHandler.start_worker

    def start_and_watch(handler: SubprocessSdkWorkerHandler) -> None:
        handler._worker_command_line = _tethered(handler._worker_command_line)
        start(handler)
        threading.Thread(target=_watch, args=(handler,), daemon=True).start()

    SubprocessSdkWorkerHandler.start_worker = start_and_watch
    try:
        yield
    finally:
        SubprocessSdkWorkerHandler.start_worker = start


def _tethered(line: bytes) -> bytes:
    """A worker's command line; the shell that Beam starts for it makes way."""
    python, option, *module = shlex.split(line.decode())
    words = tethered.command([python, option, "pipeline.runners.beam.worker_main", *module])
    return f"exec {shlex.join(words)}".encode()


def _watch(handler: SubprocessSdkWorkerHandler) -> None:
    handler.worker_thread.join()
    error = KerasAEError("a worker process died, usually out of memory; reduce --workers")
    # It has been asked to end if its connection is closed; what waits otherwise waits for it.
    while handler.control_conn._state != BeamFnControlServicer.DONE_STATE:
        handler.control_conn.abort(error)
        time.sleep(0.5)


def cause(error: BaseException) -> KerasAEError | None:
    """The project's own error in the traceback that a worker sent as text, or None.

    Args:
        error: what Beam raised; its text may be a traceback from another process.
    """
    text = str(error)
    if "Traceback (most recent call last)" not in text:
        return None
    found = _ERROR.findall(text)
    if not found:
        return None
    kind, said = found[-1]
    said = _STEP.sub("", said)
    known = getattr(errors, kind, None)
    if known is not None:
        return known(said)
    if kind == "OSError" and "[Errno 28]" in said:
        return StorageError(
            f"cannot write: {said.removeprefix('[Errno 28] ')}; what earlier runs made is kept"
        )
    return KerasAEError(f"a worker failed: {kind}: {said[:300]}; the details are in the log")
