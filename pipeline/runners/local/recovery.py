"""What a run that was killed left in its root: found by the next one, and put in order."""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from keras_ae import durable

ARTIFACTS, UNFINISHED = "artifacts", "unfinished.json"


def clear(root: Path, connection: Any) -> None:
    """Removes what nobody will read: outputs of executions that never ended, and partial files.

    Such executions are marked as failed in ML Metadata, of which SQLite itself takes back a
    transaction that was cut off. Only for one that is alone in the root.

    Args:
        root: of the run.
        connection: to its ML Metadata.
    """
    for partial in root.glob("*.partial"):
        partial.unlink(missing_ok=True)
    # Of TFX, for the time of an execution.
    for system in root.glob(f"{ARTIFACTS}/*/*/.system"):
        shutil.rmtree(system, ignore_errors=True)
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    store = MetadataStore(connection)
    states = (mlmd.Execution.NEW, mlmd.Execution.RUNNING)
    for execution in store.get_executions():
        if execution.last_known_state not in states:
            continue
        for output in root.glob(f"{ARTIFACTS}/*/*/*/{execution.id}"):
            logging.info("removes %s of an execution that was killed", output)
            shutil.rmtree(output, ignore_errors=True)
        execution.last_known_state = mlmd.Execution.FAILED
        store.put_executions([execution])


def began(root: Path, run: Mapping[str, Any], in_service: str | None) -> str | None:
    """Notes that a run begins, or finds that one like it did and never ended.

    One that was killed behind its push would be measured against itself when it is run again.

    Args:
        root: of the run.
        run: what makes two runs the same, as JSON can hold it.
        in_service: the model in service now.

    Returns:
        The model that was in service when the run first began.
    """
    note = root / UNFINISHED
    ours = in_service is not None and Path(in_service).is_relative_to(root / ARTIFACTS)
    with suppress(OSError, ValueError, LookupError, TypeError):
        found = json.loads(note.read_text())
        before = found["in_service"]
        if ours and found["run"] == run and (before is None or Path(before).is_dir()):
            return None if before is None else str(before)
    durable.write(note, json.dumps({"run": run, "in_service": in_service}, indent=1).encode())
    return in_service


def ended(root: Path) -> None:
    """Notes that the run has come to its end."""
    (root / UNFINISHED).unlink(missing_ok=True)


TEMPORARY = "temporary"


@contextmanager
def folder(root: Path, *, alone: bool) -> Iterator[None]:
    """Makes a folder below a root the one for temporary files, of child processes and libraries
    as well, while the block runs.

    Args:
        root: of the run.
        alone: whether no other run uses the root, so that what is found there is of dead ones.
    """
    place = root / TEMPORARY
    if alone:
        shutil.rmtree(place, ignore_errors=True)
    place.mkdir(exist_ok=True)
    own = tempfile.mkdtemp(dir=place)
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = own
    try:
        yield
    finally:
        tempfile.tempdir = before
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable
        shutil.rmtree(own, ignore_errors=True)
        with suppress(OSError):
            place.rmdir()
