import errno
import json

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd

from keras_ae.errors import DataError, StorageError
from pipeline import local
from pipeline.components.pusher.executor import PROVENANCE
from pipeline.run_local import parse_arguments


def test_only_runs_of_the_same_data_preset_and_channels_share_a_lineage(tmp_path):
    variants = [
        [],
        ["--channels", "1"],
        ["--preset", "baseline"],
        ["--data", str(tmp_path)],
        ["--data", "tfds:cifar10"],
    ]
    names = [local._lineage(parse_arguments(flags)) for flags in variants]
    assert len(set(names)) == len(names)
    assert local._lineage(parse_arguments(["--budgets", "3", "--seed", "4"])) == names[0]


def push(push_dir, version: str, lineage: str, artifact: str) -> None:
    path = push_dir / version / PROVENANCE
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"lineage": lineage, "artifact": artifact}))


def test_the_model_in_service_is_the_newest_of_its_lineage(tmp_path, capsys):
    (tmp_path / "model").mkdir()
    push(tmp_path / "push", "1", "ours", str(tmp_path / "model"))
    push(tmp_path / "push", "2", "theirs", str(tmp_path / "other"))
    assert local._in_service(tmp_path / "push", "ours") == str(tmp_path / "model")
    assert local._in_service(tmp_path / "push", "nobody's") is None
    assert capsys.readouterr().out == ""
    assert local._in_service(tmp_path / "push", "theirs") is None
    assert "is gone" in capsys.readouterr().out


def test_an_error_that_a_library_wrapped_is_told_as_it_was():
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = DataError("no image in x [while running 'Read/Shards']")
    cause = local._cause(wrapped)
    assert isinstance(cause, DataError)
    assert str(cause) == "no image in x"
    assert local._cause(RuntimeError("unknown")) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_storage_error_names_the_place(number):
    cause = local._cause(OSError(number, "reason", "/place"))
    assert isinstance(cause, StorageError)
    assert str(cause).startswith("cannot write /place: reason")


def outcome(pushed: int, reason: str, unchanged: str = "") -> dict[str, list[mlmd.Artifact]]:
    """Artifacts as a run leaves them."""
    push, check = mlmd.Artifact(id=1), mlmd.Artifact(id=2)
    push.custom_properties["pushed"].int_value = pushed
    push.custom_properties["pushed_destination"].string_value = "/push/7"
    if unchanged:
        push.custom_properties["unchanged_version"].string_value = unchanged
    if reason:
        check.custom_properties["reason"].string_value = reason
    return {"PushedModel": [push], "InfraBlessing": [check]}


def test_what_came_of_the_push_is_told(tmp_path, capsys):
    for found, text in (
        (outcome(1, ""), "pushed: /push/7\nserve: "),
        (outcome(0, "", unchanged="/push/6"), "pushed nothing: /push/6 is this model already"),
        (outcome(0, "REST: 7 grey levels"), "answer alike when it is served: REST: 7 grey levels"),
    ):
        local._tell_push(tmp_path, found, tolerance=0.1)
        assert text in capsys.readouterr().out


def test_what_came_of_mlflow_is_told_in_one_line(capsys):
    arguments = parse_arguments(["--mlflow-uri", "http://127.0.0.1:5000"])
    for told, text in (
        ({}, ""),
        ({"mlflow_run": "0123", "mlflow_failure": ""}, "mlflow: run 0123 of 'keras-ae'\n"),
        (
            {"mlflow_run": "", "mlflow_failure": "nothing was logged"},
            "warning: nothing was logged\n",
        ),
    ):
        local._tell_mlflow(arguments, told)
        assert capsys.readouterr().out == text
