import os
import socket
import sys
import time

import pytest
from mlflow import MlflowClient

from keras_ae.comparison.records import Check, Commit, Comparison, Run, Verdict
from pipeline.components.report import mlflow_log


@pytest.fixture
def reported(comparison) -> Comparison:
    run = Run(
        data="/images",
        preset="medium",
        seed=3,
        seeds=(3, 4),
        latent_channels=8,
        git=Commit(commit="0123abcd", dirty=False),
        created="2026-01-02T03:04:05+00:00",
    )
    return comparison.model_copy(update={"run": run, "verdict": judged(ABOVE)})


ABOVE = "it lies 1.5 dB above the floor"


def judged(text: str) -> Verdict:
    check = Check(
        name="gain_over_floor", slice=None, images=48, value=1.5, limit=0, ok=True, text=text
    )
    return Verdict(blessed=True, checks=(check,), not_judged=(), slices=(), skipped_ssim=0)


@pytest.fixture
def store(tmp_path, monkeypatch) -> str:
    """The address of an MLflow store in a folder."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "mlruns").as_uri()


def test_a_run_in_mlflow_has_params_curves_tags_and_files(reported, store, tmp_path):
    (tmp_path / "report.html").write_text("page")
    environment = dict(os.environ)
    run_id, failure = mlflow_log.log(store, "ours", reported, [tmp_path / "report.html"])
    assert failure == ""
    assert dict(os.environ) == environment

    client = MlflowClient(store)
    run = client.get_run(run_id)
    assert client.get_experiment(run.info.experiment_id).name == "ours"
    assert run.info.status == "FINISHED"
    assert run.data.params["preset"] == "medium"
    assert run.data.params["seeds"] == "[3, 4]"
    assert run.data.params["budgets"] == "10,100"
    assert run.data.tags["chosen_epochs"] == "100"
    assert run.data.tags["blessed"] == "true"
    assert run.data.tags["verdict"] == ABOVE
    assert run.data.tags["mlflow.note.content"] == "100 epochs.\n\n- It rises."
    assert run.data.tags["mlflow.source.git.commit"] == "0123abcd"
    for name, expected in (
        ("val/psnr", [(10, 29.0), (100, 30.5)]),
        ("test/gain_over_floor", [(10, 0.0), (100, 1.5)]),
        ("baseline/test/psnr", [(10, 18.0), (100, 19.5)]),
        ("patch_pca/test/psnr", [(10, 28.0), (100, 28.0)]),
        ("seconds", [(10, 10.0), (100, 100.0)]),
    ):
        history = client.get_metric_history(run_id, name)
        assert sorted((metric.step, metric.value) for metric in history) == expected
    assert [file.path for file in client.list_artifacts(run_id)] == ["report.html"]

    again, _ = mlflow_log.log(store, "ours", reported, [])
    assert client.get_run(again).info.experiment_id == run.info.experiment_id


def test_a_run_whose_files_cannot_be_logged_is_marked_as_failed(reported, store, tmp_path):
    run_id, failure = mlflow_log.log(store, "ours", reported, [tmp_path / "missing.html"])
    assert run_id == ""
    assert "missing.html" in failure
    client = MlflowClient(store)
    experiment_id = client.get_experiment_by_name("ours").experiment_id
    assert [run.info.status for run in client.search_runs([experiment_id])] == ["FAILED"]


@pytest.mark.parametrize("listens", [False, True])
def test_a_server_that_does_not_answer_costs_seconds_and_a_line(listens, reported, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        start = time.monotonic()
        run_id, failure = mlflow_log.log(address, "ours", reported, [])
    assert time.monotonic() - start < 20
    assert run_id == ""
    assert failure == (
        f"nothing was logged to MLflow at {address}: no server answers there; start it or fix "
        "the address, then run again"
    )
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"


@pytest.mark.parametrize("address", ["nowhere://x", "sqlite:///mlflow.db", "http://"])
def test_an_address_that_cannot_be_used_is_reported(address, reported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, failure = mlflow_log.log(address, "ours", reported, [])
    assert failure.startswith(f"nothing was logged to MLflow at {address}: ")


def test_a_folder_is_refused_with_what_to_do_unless_it_is_allowed(reported, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    _, failure = mlflow_log.log(str(tmp_path), "ours", reported, [])
    assert failure.endswith("or set MLFLOW_ALLOW_FILE_STORE=true")
    assert len(failure) < 400


def test_a_missing_package_is_reported_with_how_to_install_it(reported, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    _, failure = mlflow_log.log("http://127.0.0.1:5000", "ours", reported, [])
    assert failure.endswith("pip install mlflow-skinny")


def test_texts_are_truncated_to_the_maximum_of_mlflow(reported):
    long = reported.model_copy(update={"verdict": judged("x" * 9000)})
    assert len(mlflow_log.tags(long)["verdict"]) == 5000
