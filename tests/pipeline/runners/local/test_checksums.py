"""Damage to results of earlier runs: artifacts, and the metadata store."""

import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration.metadata import Metadata, sqlite_metadata_connection_config
from tfx.orchestration.portable import cache_utils
from tfx.proto.orchestration import pipeline_pb2
from tfx.types import standard_artifacts

from keras_ae.errors import StorageError
from pipeline.runners.local import caching, metadata
from pipeline.runners.local.checksums import Checksums


@pytest.fixture
def artifact(tmp_path) -> Path:
    place = tmp_path / "root" / "artifacts" / "line" / "Node" / "model" / "1"
    (place / "variables").mkdir(parents=True)
    (place / "saved_model.pb").write_bytes(b"graph")
    (place / "variables" / "data").write_bytes(bytes(1000))
    return place


@pytest.fixture
def checksums(tmp_path) -> Checksums:
    return Checksums(tmp_path / "root" / "checksums")


def flip(path: Path, at: int) -> None:
    """Flips a bit as a failing disk does: size and modification time stay."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_the_digest_is_of_names_and_contents_at_first(artifact, checksums, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(artifact, copy)
    first = checksums.digest(str(artifact))
    assert checksums.digest(str(copy)) == first
    flip(artifact / "variables" / "data", 7)
    assert checksums.digest(str(artifact)) == first
    checksums.forget(str(artifact))
    assert checksums.digest(str(artifact)) != first
    (copy / "variables").rename(copy / "other")
    checksums.forget(str(copy))
    assert checksums.digest(str(copy)) != first


def test_artifacts_that_are_intact_or_have_no_manifest_are_not_damaged(artifact, checksums):
    assert checksums.damage(str(artifact), fully=True) == ""
    checksums.digest(str(artifact))
    (artifact / "added").write_bytes(b"a file of the user's")
    (artifact / "saved_model.pb").touch()
    assert checksums.damage(str(artifact), fully=True) == ""
    assert checksums.damage(str(artifact), fully=False) == ""
    assert checksums.size(str(artifact)) == 1005


def test_damage_is_named(artifact, checksums):
    checksums.digest(str(artifact))
    data = artifact / "variables" / "data"
    flip(data, 999)
    assert checksums.damage(str(artifact), fully=True) == f"{data} is not what was written"
    assert checksums.damage(str(artifact), fully=False) == ""
    data.write_bytes(bytes(999))
    assert checksums.damage(str(artifact), fully=False) == f"{data} is not what was written"
    shutil.rmtree(artifact / "variables")
    assert checksums.damage(str(artifact), fully=False) == f"{data} is gone"


def test_an_unreadable_manifest_is_written_again(artifact, checksums, tmp_path):
    first = checksums.digest(str(artifact))
    (manifest,) = (tmp_path / "root" / "checksums").iterdir()
    for text in ("", "[]", '{"files": {"x": 7}}', "{"):
        manifest.write_text(text)
        assert checksums.damage(str(artifact), fully=True) == ""
        assert checksums.digest(str(artifact)) == first


@pytest.fixture
def connection(tmp_path):
    (tmp_path / "root").mkdir(exist_ok=True)
    return sqlite_metadata_connection_config(str(tmp_path / "root" / metadata.NAME))


@pytest.fixture
def store(artifact, connection) -> MetadataStore:
    """A metadata store with one artifact of the pipeline `line`, written by execution 1."""
    store = MetadataStore(connection)
    kinds = mlmd.ArtifactType(name="Model"), mlmd.ExecutionType(name="Node")
    model, node = store.put_artifact_type(kinds[0]), store.put_execution_type(kinds[1])
    context = store.put_context_type(mlmd.ContextType(name="pipeline"))
    model_artifact = mlmd.Artifact(type_id=model, uri=str(artifact), state=mlmd.Artifact.LIVE)
    event = mlmd.Event(type=mlmd.Event.OUTPUT)
    line = mlmd.Context(type_id=context, name="line")
    store.put_execution(mlmd.Execution(type_id=node), [(model_artifact, event)], [line])
    return store


def state_of(connection, place: Path) -> int:
    (found,) = MetadataStore(connection).get_artifacts_by_uri(str(place))
    return found.state


def test_damaged_artifacts_are_removed_from_the_cache(
    store, connection, artifact, checksums, capsys
):
    caching.write_manifests(connection, "line", checksums)
    caching.remove_damaged(connection, "line", checksums, ignored_nodes=())
    caching.remove_damaged(connection, "no such line", checksums, ignored_nodes=())
    assert capsys.readouterr().out == ""
    flip(artifact / "saved_model.pb", 0)
    caching.remove_damaged(connection, "line", checksums, ignored_nodes=("Node",))
    assert state_of(connection, artifact) == mlmd.Artifact.LIVE
    caching.remove_damaged(connection, "line", checksums, ignored_nodes=())
    message = f"damaged: {artifact / 'saved_model.pb'} is not what was written; Node runs again\n"
    assert capsys.readouterr().out == message
    assert state_of(connection, artifact) == mlmd.Artifact.DELETED
    assert not artifact.exists()
    caching.remove_damaged(connection, "line", checksums, ignored_nodes=())
    caching.write_manifests(connection, "line", checksums)
    assert capsys.readouterr().out == ""


def test_of_many_artifacts_the_oldest_are_not_read(
    store, connection, artifact, checksums, monkeypatch, capsys
):
    caching.write_manifests(connection, "line", checksums)
    monkeypatch.setattr(caching, "VERIFIED_BYTES", 1004)
    flip(artifact / "saved_model.pb", 0)
    caching.remove_damaged(connection, "line", checksums, ignored_nodes=())
    assert capsys.readouterr().out == ""


def test_a_step_is_cached_by_the_content_of_its_inputs(connection, artifact, checksums, tmp_path):
    (tmp_path / "other").mkdir()
    places = [artifact, tmp_path / "same", tmp_path / "other"]
    shutil.copytree(artifact, places[1])
    keys = []
    with caching.by_content(checksums), Metadata(connection) as handle:
        for number, place in enumerate(places):
            model = standard_artifacts.Model()
            model.id, model.uri, model.name = number, str(place), f"model of run {number}"
            context = cache_utils.get_cache_context(
                metadata_handle=handle,
                pipeline_node=pipeline_pb2.PipelineNode(),
                pipeline_info=pipeline_pb2.PipelineInfo(id="line"),
                input_artifacts={"model": [model]},
            )
            keys.append(context.name)
            assert model.uri == str(place)
    assert keys[0] == keys[1] != keys[2]


def test_an_evaluation_is_cached_by_the_model_in_service_unless_it_is_the_model(
    connection, artifact, checksums, tmp_path
):
    saved_model = artifact / "Format-Serving"
    saved_model.mkdir()
    (artifact / "saved_model.pb").rename(saved_model / "saved_model.pb")
    version = shutil.copytree(saved_model, tmp_path / "push" / "7")

    def key(in_service: Path | None) -> str:
        inputs = {"model": [standard_artifacts.Model()]}
        inputs["model"][0].uri = str(artifact)
        if in_service:
            inputs["baseline_model"] = [standard_artifacts.Model()]
            inputs["baseline_model"][0].uri = str(in_service)
        with caching.by_content(checksums), Metadata(connection) as handle:
            return cache_utils.get_cache_context(
                metadata_handle=handle,
                pipeline_node=pipeline_pb2.PipelineNode(),
                pipeline_info=pipeline_pb2.PipelineInfo(id="line"),
                input_artifacts=inputs,
            ).name

    without = key(None)
    assert key(version) == without
    (version / "saved_model.pb").write_bytes(b"another graph")
    other = key(version)
    assert other != without
    assert key(shutil.copytree(version, version.with_name("8"))) == other
    # What is in a version may change; it has no manifest.
    (version / "saved_model.pb").write_bytes(b"a third graph")
    assert key(version) not in (without, other)


def test_the_model_in_service_is_never_removed_as_a_damaged_artifact(
    store, connection, checksums, tmp_path
):
    version = tmp_path / "push" / "7"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"graph")
    (kind,) = store.get_artifact_types()
    imported = mlmd.Artifact(type_id=kind.id, uri=str(version), state=mlmd.Artifact.LIVE)
    (node,), line = (
        store.get_execution_types(),
        store.get_context_by_type_and_name("pipeline", "line"),
    )
    event = mlmd.Event(type=mlmd.Event.OUTPUT)
    store.put_execution(mlmd.Execution(type_id=node.id), [(imported, event)], [line])
    caching.write_manifests(connection, "line", checksums)
    assert checksums.size(str(version)) == 0
    checksums.digest(str(version))
    (version / "saved_model.pb").write_bytes(b"another")
    caching.remove_damaged(connection, "line", checksums, ignored_nodes=())
    assert version.exists()


def break_header(path: Path) -> None:
    flip(path, 3)


def truncate(path: Path) -> None:
    os.truncate(path, 10_000)


def break_a_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8192:12288] = os.urandom(4096)
    path.write_bytes(data)


def break_a_row(path: Path) -> None:
    """Changes bytes in a way that SQLite itself does not notice."""
    flip(path, path.read_bytes().rindex(b"/artifacts/line/") + 1)


BREAKS = [break_header, truncate, break_a_page, break_a_row, os.unlink, os.truncate]


@pytest.mark.parametrize("damage", BREAKS)
def test_a_broken_store_is_replaced_by_its_copy(
    store, connection, artifact, tmp_path, capsys, damage
):
    path = tmp_path / "root" / metadata.NAME
    metadata.back_up(path.parent)
    del store
    metadata.check(path.parent)
    assert capsys.readouterr().out == ""
    later = artifact.with_name("2")
    later.mkdir()
    damage(path, 0) if damage is os.truncate else damage(path)
    metadata.check(path.parent)
    assert re.fullmatch(
        rf"damaged: {path} is (gone|broken: .*|not what was written); "
        r"restored from the copy of the last run\n",
        capsys.readouterr().out,
    )
    assert state_of(connection, artifact) == mlmd.Artifact.LIVE
    assert artifact.exists()
    # A later execution will have its id.
    assert not later.exists()
    metadata.check(path.parent)
    assert capsys.readouterr().out == ""


def test_a_store_that_was_written_since_is_not_damaged(
    store, connection, artifact, tmp_path, capsys
):
    """A run that is killed changes the store after its last backup."""
    root = tmp_path / "root"
    metadata.back_up(root)
    (stored,) = store.get_artifacts()
    stored.state = mlmd.Artifact.DELETED
    store.put_artifacts([stored])
    metadata.check(root)
    assert capsys.readouterr().out == ""
    assert state_of(connection, artifact) == mlmd.Artifact.DELETED
    del store
    break_header(root / metadata.NAME)
    metadata.check(root)
    assert state_of(connection, artifact) == mlmd.Artifact.LIVE


@pytest.mark.parametrize("copied", [False, True])
def test_a_broken_store_without_a_good_copy_is_replaced_by_a_new_one(
    store, connection, artifact, tmp_path, capsys, copied
):
    root = tmp_path / "root"
    if copied:
        metadata.back_up(root)
        flip(root / metadata.BACKUPS / metadata.NAME, 5000)
        metadata.check(root)
        assert capsys.readouterr().out == ""
    del store
    break_header(root / metadata.NAME)
    metadata.check(root)
    message = capsys.readouterr().out
    assert "is broken: file is not a database; starting a new one" in message
    assert not artifact.exists()
    assert list(root.glob("artifacts.damaged-*/line/Node/model/1/saved_model.pb"))
    assert list(root.glob("metadata.sqlite.damaged-*"))
    assert MetadataStore(connection).get_executions() == []


def test_a_store_in_use_is_not_taken_for_a_broken_one(store, tmp_path):
    path = tmp_path / "root" / metadata.NAME
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match="database is locked"):
            metadata.check(path.parent)
    metadata.check(path.parent)


def test_a_root_without_a_store_is_a_new_one(tmp_path, capsys):
    metadata.check(tmp_path)
    metadata.back_up(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""
