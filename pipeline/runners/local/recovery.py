"""Recovery from a run that was killed: the next run finds and removes what it left in the root."""

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
from keras_ae.storage import PathOrUri
from pipeline.runtime import versions

ARTIFACTS, UNFINISHED, TEMPORARY = "artifacts", "unfinished.json", "temporary"


def remove_unfinished(root: Path, connection: Any) -> None:
    """Removes outputs of executions that never ended, and partial files, from a root that no other
    run uses.

    Such executions are marked as failed in ML Metadata. (SQLite itself rolls back a transaction
    that was interrupted.)
    """
    for partial in root.glob("*.partial"):
        partial.unlink(missing_ok=True)
    # TFX's own folders for an execution, which it removes when the execution ends.
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
            logging.info("removing %s of an execution that was killed", output)
            shutil.rmtree(output, ignore_errors=True)
        execution.last_known_state = mlmd.Execution.FAILED
        store.put_executions([execution])


def record_start(
    root: Path, run: Mapping[str, Any], in_service: PathOrUri | None
) -> PathOrUri | None:
    """Records the start of a run, or finds that the same run was started before and never ended.

    A run that was killed after its push would otherwise be compared with its own model when it is
    started again.

    Args:
        run: what identifies the run, as JSON.
        in_service: the version that is in service now.

    Returns:
        The version that was in service when the run was started first, unless it has changed.
    """
    record = root / UNFINISHED
    with suppress(OSError, ValueError, LookupError, TypeError):
        earlier = json.loads(record.read_text())
        before = earlier["in_service"] and earlier["in_service"]["version"]
        same = before is None or versions.digest(before) == earlier["in_service"]["digest"]
        if earlier["run"] == run and same and _is_output(in_service, root):
            return before
    version = in_service and {"version": str(in_service), "digest": versions.digest(in_service)}
    durable.write(record, json.dumps({"run": run, "in_service": version}, indent=1).encode())
    return in_service


def _is_output(version: PathOrUri | None, root: Path) -> bool:
    """Whether a run of this root has pushed a version."""
    artifact = versions.provenance(version).get("artifact", "") if version else ""
    return Path(artifact).is_relative_to(root / ARTIFACTS)


def record_end(root: Path) -> None:
    """Records that the run has ended."""
    (root / UNFINISHED).unlink(missing_ok=True)


@contextmanager
def temporary_folder(root: Path, *, exclusive: bool) -> Iterator[None]:
    """Puts temporary files below a root while the block runs, also those of libraries and children.

    A run that is killed leaves them there. The next one removes them if it is `exclusive`: if no
    other run uses the root.
    """
    parent = root / TEMPORARY
    if exclusive:
        shutil.rmtree(parent, ignore_errors=True)
    parent.mkdir(exist_ok=True)
    folder = tempfile.mkdtemp(dir=parent)
    # Python reads TMPDIR once; child processes read it when they start.
    tempdir, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    try:
        yield
    finally:
        tempfile.tempdir = tempdir
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable
        shutil.rmtree(folder, ignore_errors=True)
        # Another run of this root may still have its folder there.
        with suppress(OSError):
            parent.rmdir()
