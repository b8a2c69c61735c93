"""The compiled pipeline, executed as Kubeflow executes it, has the results of a local run.

All artifacts are in a bucket, as on Kubeflow. One of the containers is started by its command; the
others are forked by the fork server.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pipeline.run_kubeflow import parse_arguments
from pipeline.runners.kubeflow import runner
from pipeline.runtime.artifacts import STATE, model_digest
from tests.e2e.replay import Replay
from tests.e2e.runs import LONG, comparison_results
from tests.gcs import Bucket

UNFORKED = f"Trainer-{LONG}"
FLAGS = ["--budgets", f"1,{LONG}", "--tile", "64"]
PARAMETERS = {"data_fingerprint": "v1", "preset": "tiny", "seed": 1}
"""Parameters of the run, which override the values that the pipeline was compiled with."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("replay")


@pytest.fixture(scope="module")
def replay(folder, finished, bucket, forks) -> Replay:
    """A run with the flags of the local run, and with its model as the one in service."""
    (served,) = finished.glob("root/artifacts/*/BudgetComparison/model/*")
    root = f"{bucket.uri}/root"
    flags = ["--image", "keras-ae:1", "--pipeline-root", root, "--output", "pipeline.yaml"]
    flags += ["--data", bucket.put(finished / "images", "images")]
    flags += ["--incumbent-uri", bucket.put(served, "served")]
    arguments = parse_arguments([*flags, *FLAGS])
    # ServingCheck starts a server in the local run already.
    arguments.check_command = []
    text = runner.compiled(arguments)
    containers = folder / "containers"
    replay = Replay(text, root, PARAMETERS, containers, bucket.environment, forks.start, UNFORKED)
    replay.run()
    return replay


@pytest.fixture(scope="module")
def outputs(folder, replay, bucket):
    """Downloads an output of a task: outputs(task, name) -> folder."""

    def download(task: str, name: str) -> Path:
        below = replay.outputs[task][name].uri.removeprefix(f"{bucket.uri}/")
        return bucket.get(below, folder / "copies" / task / name)

    return download


def test_every_stage_has_the_weights_of_the_local_run(finished, outputs):
    for budget in (1, LONG):
        (path,) = finished.glob(f"root/artifacts/*/Trainer_{budget}/model/*/{STATE}")
        ours, theirs = np.load(outputs(f"Trainer-{budget}", "model") / STATE), np.load(path)
        assert set(ours) == set(theirs)
        for name in set(ours) - {"seconds"}:
            assert np.array_equal(ours[name], theirs[name]), name


def test_the_comparison_has_the_numbers_of_the_local_run(finished, outputs):
    report = outputs("Report", "report")
    ours = json.loads((report / "comparison.json").read_text())
    theirs = json.loads((finished / "root" / "comparison.json").read_text())
    assert ours["chosen"] == theirs["chosen"]
    assert comparison_results(ours) == comparison_results(theirs)
    assert (report / "images.jsonl").read_text() == (finished / "root" / "images.jsonl").read_text()
    assert (report / "report.html").stat().st_size > 10_000
    run = ours["run"]
    assert (run["preset"], run["seed"], run["seeds"]) == ("tiny", 1, [1])
    assert run["data_fingerprint"] == "v1"
    nodes = {entry["name"]: entry["node"] for entry in run["lineage"]}
    assert nodes["model_1"] == "Trainer-1"
    assert nodes["in_service"] is None


def test_the_chosen_model_is_pushed_and_has_the_predictions_of_the_local_one(
    folder, finished, outputs, bucket: Bucket
):
    versions = {name.split("/")[3] for name in bucket.names("root/serving/keras_ae/")}
    (version,) = (name for name in versions if name.isdigit())
    ours = bucket.get(f"root/serving/keras_ae/{version}", folder / "pushed" / version)
    (theirs,) = (finished / "root" / "serving" / "keras_ae").iterdir()
    chosen = outputs("BudgetComparison", "model") / "Format-Serving"
    metadata = json.loads((ours / "assets.extra" / "keras_ae.json").read_text())
    assert metadata["digest"] == model_digest(chosen)
    variables = "variables/variables.data-00000-of-00001"
    assert (ours / variables).read_bytes() == (theirs / variables).read_bytes()
    image = [(finished / "images" / "coffee.png").read_bytes()]
    predictions = [
        tf.saved_model.load(str(path)).signatures["serving_default"](image_bytes=tf.constant(image))
        for path in (ours, theirs)
    ]
    for name in predictions[0]:
        assert np.array_equal(predictions[0][name], predictions[1][name]), name


def test_the_launcher_can_download_the_outputs_of_each_step(replay, bucket: Bucket):
    """There are no markers of folders, which the launcher would download as files."""
    for outputs in replay.outputs.values():
        for artifact in outputs.values():
            below = artifact.uri.removeprefix(f"{bucket.uri}/")
            assert bucket.markers(f"{below}/") == []


def test_checkpoints_are_removed(replay, bucket: Bucket):
    assert bucket.names("root/checkpoints/") == []
