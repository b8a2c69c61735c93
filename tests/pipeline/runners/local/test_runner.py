import errno
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd

from keras_ae.comparison.records import Check, Verdict
from keras_ae.errors import DataError, StorageError
from pipeline.run_local import parse_arguments
from pipeline.runners.flags import resolve_data
from pipeline.runners.local import runner, summary


def test_only_runs_of_the_same_data_preset_and_channels_share_a_pipeline_name(tmp_path):
    variants = [
        [],
        ["--channels", "1"],
        ["--preset", "baseline"],
        ["--data", str(tmp_path)],
        ["--data", "tfds:cifar10"],
    ]
    names = [runner._pipeline_name(parse_arguments(flags)) for flags in variants]
    assert len(set(names)) == len(names)
    assert runner._pipeline_name(parse_arguments(["--budgets", "3", "--seed", "4"])) == names[0]


@pytest.mark.parametrize("data", ["gs://bucket/images.zip", "tfds:cifar10", "sample"])
def test_data_that_is_no_path_is_the_same_from_every_folder(data, tmp_path, monkeypatch):
    flags = parse_arguments(["--data", data])
    here = runner._pipeline_name(flags)
    monkeypatch.chdir(tmp_path)
    assert runner._pipeline_name(flags) == here
    assert resolve_data(data) == data


def test_a_model_in_service_that_cannot_be_compared_is_noted_before_the_run(
    tiny_model, tmp_path, capsys
):
    version = tiny_model() / "Format-Serving"
    runner._note_fault(version, 3)
    assert capsys.readouterr().out == ""
    runner._note_fault(version, 1)
    (line,) = capsys.readouterr().out.splitlines()
    assert line == (
        "note: a new model of this run will not be pushed: it cannot be compared with the model in "
        f"service, {version}, which has 3 channels, and this model has 1; to push it without this "
        "comparison, add --replace"
    )


def test_an_error_that_a_library_wrapped_is_reported_as_it_was():
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = DataError("no image in x [while running 'Read/Shards']")
    cause = runner._cause(wrapped)
    assert isinstance(cause, DataError)
    assert str(cause) == "no image in x"
    assert runner._cause(RuntimeError("unknown")) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_storage_error_names_the_place(number):
    cause = runner._cause(OSError(number, "reason", "/place"))
    assert isinstance(cause, StorageError)
    assert str(cause).startswith("cannot write /place: reason")


def test_a_full_disk_has_one_message_wherever_it_was_noticed():
    full = "No space left on device"
    kept = f"{full}; what earlier runs made is kept"
    error = StorageError(f"cannot write the training state x.npz: {full}")
    assert str(runner._cause(error)) == f"cannot write the training state x.npz: {kept}"
    assert (
        str(runner._cause(StorageError(f"cannot push to y: {kept}"))) == f"cannot push to y: {kept}"
    )
    assert str(runner._cause(OSError(errno.ENOSPC, full))) == f"cannot write: {kept}"


def outcome(pushed: int, reason: str, **versions: str) -> dict[str, list[mlmd.Artifact]]:
    """The artifacts of a run."""
    push, check = mlmd.Artifact(id=1), mlmd.Artifact(id=2)
    push.custom_properties["pushed"].int_value = pushed
    push.custom_properties["pushed_destination"].string_value = "/push/7"
    for name, version in versions.items():
        push.custom_properties[name].string_value = version
    if reason:
        check.custom_properties["reason"].string_value = reason
    return {"PushedModel": [push], "InfraBlessing": [check]}


def check(text: str, ok: bool | None, value: float = 0.0, of: str | None = None) -> Check:
    return Check(name="slice_psnr", slice=of, images=9, value=value, limit=-0.5, ok=ok, text=text)


def judged(blessed: bool, checks: list[Check]) -> Verdict:
    return Verdict(blessed=blessed, checks=checks, not_judged=(), slices=(), skipped_ssim=0)


def test_the_outcome_of_the_push_is_printed(tmp_path, capsys):
    checks = [check("it is better", True), check("no other", None)]
    checks += [check(f"slice {i} rose", True, i, f"label: {i}") for i in (2, 1)]
    verdict = judged(True, checks)
    for found, text in (
        (outcome(1, ""), "slice 1 rose (the worst of 2 slices)\npushed: /push/7\nserve: "),
        (outcome(0, "", unchanged_version="/push/6"), "not pushed: /push/6 is this model already"),
        (
            outcome(0, "", arrived_version="/push/8"),
            "not pushed: /push/8 came into service after this run had begun: run it again to "
            "compare the model with it\n",
        ),
        (
            outcome(0, "REST: 7 grey levels"),
            "served predictions differ from the trained model: REST: 7 grey levels",
        ),
    ):
        summary._print_push(tmp_path, found, verdict)
        printed = capsys.readouterr().out
        assert printed.startswith("blessed: it is better\nblessed: slice 1 rose")
        assert text in printed
        assert "no other" not in printed


def test_the_command_that_serves_a_model_runs_from_any_folder(tmp_path, monkeypatch):
    command = summary._serve_command(tmp_path / "my models")
    change, serve = command.split(" && ")
    assert change == f"cd {Path(summary.__file__).parents[3]}"
    program, *flags = shlex.split(serve)
    assert program == sys.executable
    assert flags[-1] == f"--model_base_path={tmp_path / 'my models'}"
    done = subprocess.run(
        f"{change} && {program} -m serving.server --help", shell=True, cwd=tmp_path, text=True,
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(summary, "CHECKOUT", tmp_path)
    assert summary._serve_command(tmp_path).startswith("tensorflow_model_server --port=8500 ")


def test_a_refusal_names_each_failed_check_and_the_worst_slices(tmp_path, capsys):
    checks = [check("the mean fell", False), check("above the floor", True)]
    checks += [check(f"slice {i} fell", False, -i, f"label: {i}") for i in (1, 5, 2, 4, 3)]
    summary._print_push(tmp_path, outcome(0, ""), judged(False, checks))
    assert capsys.readouterr().out == (
        "not pushed: the model is not blessed: the mean fell; slice 5 fell; slice 4 fell; "
        "slice 3 fell; and 2 more slices below the limit\n"
    )


def test_cautions_about_the_comparison_are_printed(tmp_path, capsys):
    verdict = judged(False, [check("the mean fell", False)])
    verdict = verdict.model_copy(update={"notes": ("it may have been trained on them",)})
    summary._print_push(tmp_path, outcome(0, ""), verdict)
    assert capsys.readouterr().out.startswith("note: it may have been trained on them\nnot pushed")


def test_the_outcome_of_mlflow_is_printed_in_one_line(capsys):
    arguments = parse_arguments(["--mlflow-uri", "http://127.0.0.1:5000"])
    for properties, text in (
        ({}, ""),
        ({"mlflow_run": "0123", "mlflow_failure": ""}, "mlflow: run 0123 of 'keras-ae'\n"),
        (
            {"mlflow_run": "", "mlflow_failure": "nothing was logged"},
            "warning: nothing was logged\n",
        ),
    ):
        summary._print_mlflow(arguments, properties)
        assert capsys.readouterr().out == text
