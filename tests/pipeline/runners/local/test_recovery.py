import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.runners.local import recovery
from pipeline.runtime.artifacts import PROVENANCE


@pytest.fixture
def connection(tmp_path):
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / "metadata.sqlite")
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    return config


def execute(connection, *states) -> list[int]:
    """Executions of a node in ML Metadata."""
    store = MetadataStore(connection)
    kind = store.put_execution_type(mlmd.ExecutionType(name="Trainer"))
    return store.put_executions(
        [mlmd.Execution(type_id=kind, last_known_state=state) for state in states]
    )


def test_outputs_of_executions_that_never_ended_are_removed_and_others_stay(tmp_path, connection):
    states = mlmd.Execution.COMPLETE, mlmd.Execution.RUNNING, mlmd.Execution.CACHED
    whole, half, cached = execute(connection, *states)
    node = tmp_path / "artifacts" / "pipeline" / "Trainer_10"
    for number in (whole, half):
        for output in ("model", "model_run"):
            (node / output / str(number)).mkdir(parents=True)
            (node / output / str(number) / "file").write_bytes(b"x")
    (node / ".system" / "executor_execution" / str(half) / ".temp").mkdir(parents=True)
    (tmp_path / "report.html.partial").write_bytes(b"<ht")
    (tmp_path / "report.html").write_bytes(b"<html>")
    for _ in range(2):
        recovery.remove_unfinished(tmp_path, connection)
        assert sorted(path.name for path in node.iterdir()) == ["model", "model_run"]
        assert [path.name for path in node.glob("*/*")] == [str(whole)] * 2
        assert not list(tmp_path.glob("*.partial"))
        assert (tmp_path / "report.html").exists()
        found = MetadataStore(connection).get_executions_by_id([whole, half, cached])
        after = [execution.last_known_state for execution in found]
        assert after == [mlmd.Execution.COMPLETE, mlmd.Execution.FAILED, mlmd.Execution.CACHED]


def test_a_run_that_is_started_again_is_compared_with_the_same_model(tmp_path):
    def push(number: int, root) -> Path:
        artifact = root / "artifacts" / "pipeline" / "BudgetComparison" / "model" / str(number)
        facts = tmp_path / "push" / str(number) / PROVENANCE
        facts.parent.mkdir(parents=True)
        facts.write_text(json.dumps({"digest": f"digest {number}", "artifact": str(artifact)}))
        return facts.parents[1]

    def start(run, in_service: Path | None) -> str | None:
        found = recovery.record_start(root, run, in_service)
        return found and str(found)

    root = tmp_path / "root"
    root.mkdir()
    run, other = ({"command": "python run_local.py", "data": data} for data in ("1234", "5678"))
    old, own, foreign = push(1, root), push(2, root), push(3, tmp_path / "elsewhere")
    assert start(run, old) == str(old)
    assert start(run, own) == str(old)
    # Another run, and a version that someone else has pushed meanwhile, are recorded as new.
    assert start(other, own) == str(own)
    assert start(run, old) == str(old)
    assert start(run, foreign) == str(foreign)
    assert start(run, own) == str(foreign)
    recovery.record_end(root)
    assert start(run, own) == str(own)
    recovery.record_end(root)
    recovery.record_end(root)
    assert start(run, None) is None
    assert start(run, own) is None
    for text in ("{", json.dumps({"run": run, "in_service": str(old)})):
        (root / recovery.UNFINISHED).write_text(text)
        assert start(run, old) == str(old)
    # It is known by its digest.
    (old / PROVENANCE).write_text('{"digest": "changed"}')
    assert start(run, own) == str(own)


def test_a_transaction_that_was_interrupted_is_rolled_back(tmp_path, connection):
    (whole,) = execute(connection, mlmd.Execution.COMPLETE)
    path = tmp_path / "metadata.sqlite"
    program = """
import os, signal, sqlite3, sys
store = sqlite3.connect(sys.argv[1])
store.execute("PRAGMA cache_size = 1")
store.execute("UPDATE Execution SET last_known_state = 4")
store.executemany("INSERT INTO Type (name, type_kind) VALUES (?, 0)",
    [(f"{i}" * 500,) for i in range(500)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", program, path])
    assert done.returncode == -signal.SIGKILL
    assert path.with_name(path.name + "-journal").stat().st_size > 0
    assert path.read_bytes() != before
    (found,) = MetadataStore(connection).get_executions()
    assert (found.id, found.last_known_state) == (whole, mlmd.Execution.COMPLETE)
    with sqlite3.connect(path) as store:
        assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert path.read_bytes() == before


def test_temporary_files_also_of_children_are_below_the_root_and_removed_with_the_run(tmp_path):
    before = tempfile.gettempdir(), os.environ.get("TMPDIR")
    with recovery.temporary_folder(tmp_path, exclusive=True):
        own = Path(tempfile.mkdtemp())
        program = "import tempfile; print(tempfile.mkdtemp())"
        child = Path(subprocess.check_output([sys.executable, "-c", program], text=True).strip())
        assert own.is_relative_to(tmp_path)
        assert child.is_relative_to(tmp_path)
        assert child.is_dir()
    assert (tempfile.gettempdir(), os.environ.get("TMPDIR")) == before
    assert list(tmp_path.iterdir()) == []


def test_temporary_files_of_a_killed_run_are_removed_only_without_another_run(tmp_path):
    leftover = tmp_path / recovery.TEMPORARY / "tmpabc" / "file"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"x")
    with recovery.temporary_folder(tmp_path, exclusive=False):
        assert leftover.exists()
    assert leftover.exists()
    with recovery.temporary_folder(tmp_path, exclusive=True):
        assert not leftover.exists()
    assert list(tmp_path.iterdir()) == []
