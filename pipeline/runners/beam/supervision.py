"""Beam's worker processes: how they are started, and what is raised for one that fails or dies."""

import re
from collections.abc import Sequence

from keras_ae import errors
from keras_ae.errors import KerasAEError, StorageError
from pipeline.runtime import tethered

_ERROR = re.compile(r"^(?:[\w.]+: )?(?:\w+\.)*(\w+(?:Error|Exception)): (\S.*)$", re.MULTILINE)
_STEP = re.compile(r" \[while running .*$")


def worker_command(words: Sequence[str]) -> list[str]:
    """The command line of a worker process that ends with this process and survives a full disk.

    `words` is Beam's own command line, `PYTHON -m MODULE`.
    """
    python, option, *module = words
    return tethered.command([python, option, "pipeline.runners.beam.worker_main", *module])


def worker_died() -> KerasAEError:
    """The error of a pipeline one of whose worker processes died."""
    return KerasAEError("a worker process died, usually out of memory; reduce --workers")


def cause(error: BaseException) -> KerasAEError | None:
    """The project's own error in the traceback from a worker in the text of Beam's, or None."""
    text = str(error)
    errors_in_text = _ERROR.findall(text)
    if not errors_in_text or "Traceback (most recent call last)" not in text:
        return None
    kind, message = errors_in_text[-1]
    # Beam adds the name of its step.
    message = _STEP.sub("", message)
    own_error: type[KerasAEError] | None = getattr(errors, kind, None)
    if own_error is not None:
        return own_error(message)
    if kind == "OSError" and "[Errno 28]" in message:
        return StorageError(
            f"cannot write: {message.removeprefix('[Errno 28] ')}; what earlier runs made is kept"
        )
    return KerasAEError(f"a worker failed: {kind}: {message[:300]}; the details are in the log")
