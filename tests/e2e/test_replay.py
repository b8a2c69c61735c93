"""The compiled pipeline, executed as Kubeflow would, gives what a local run gives.

All that it makes lies in a bucket, as Kubeflow has it. Of the containers one is started by its
command; the others are forked off a process that has imported what they need.
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
from tests.e2e.runs import LONG, timeless
from tests.gcs import Bucket

REAL = f"Trainer-{LONG}"
COMPILED = ["--budgets", f"1,{LONG}", "--tile", "64"]
GIVEN = {"data_fingerprint": "v1", "preset": "tiny", "seed": 1}
"""What a run is given stands in for what the pipeline was compiled with."""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("replay")


@pytest.fixture(scope="module")
def replay(place, finished, bucket, forks) -> Replay:
    """The local run's flags, and its model as the one in service."""
    (served,) = finished.glob("root/artifacts/*/BudgetComparison/model/*")
    root = f"{bucket.uri}/root"
    places = ["--image", "keras-ae:1", "--pipeline-root", root, "--output", "pipeline.yaml"]
    places += ["--data", bucket.put(finished / "images", "images")]
    places += ["--incumbent-uri", bucket.put(served, "served")]
    arguments = parse_arguments([*places, *COMPILED])
    # The local run was checked by a server.
    arguments.check_command = []
    text = runner.compiled(arguments)
    containers = place / "containers"
    replay = Replay(text, root, GIVEN, containers, bucket.environment, forks.start, REAL)
    replay.run()
    return replay


@pytest.fixture(scope="module")
def outputs(place, replay, bucket):
    """A local copy of what a task made: outputs(task, name) -> folder."""

    def copied(task: str, name: str) -> Path:
        below = replay.outputs[task][name].uri.removeprefix(f"{bucket.uri}/")
        return bucket.get(below, place / "copies" / task / name)

    return copied


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
    assert timeless(ours) == timeless(theirs)
    assert (report / "images.jsonl").read_text() == (finished / "root" / "images.jsonl").read_text()
    assert (report / "report.html").stat().st_size > 10_000
    told = ours["run"]
    assert (told["preset"], told["seed"], told["seeds"]) == ("tiny", 1, [1])
    assert told["data_fingerprint"] == "v1"
    nodes = {entry["name"]: entry["node"] for entry in told["lineage"]}
    assert nodes["model_1"] == "Trainer-1"
    assert nodes["in_service"] is None


def test_the_chosen_model_is_pushed_and_answers_as_the_local_one(
    place, finished, outputs, bucket: Bucket
):
    versions = {name.split("/")[3] for name in bucket.names("root/serving/keras_ae/")}
    (version,) = (name for name in versions if name.isdigit())
    ours = bucket.get(f"root/serving/keras_ae/{version}", place / "pushed" / version)
    (theirs,) = (finished / "root" / "serving" / "keras_ae").iterdir()
    made = outputs("BudgetComparison", "model") / "Format-Serving"
    told = json.loads((ours / "assets.extra" / "keras_ae.json").read_text())
    assert told["digest"] == model_digest(made)
    variables = "variables/variables.data-00000-of-00001"
    assert (ours / variables).read_bytes() == (theirs / variables).read_bytes()
    image = [(finished / "images" / "coffee.png").read_bytes()]
    answers = [
        tf.saved_model.load(str(each)).signatures["serving_default"](image_bytes=tf.constant(image))
        for each in (ours, theirs)
    ]
    for name in answers[0]:
        assert np.array_equal(answers[0][name], answers[1][name]), name


def test_the_launcher_can_download_what_each_step_made(replay, bucket: Bucket):
    """It takes an object that stands for a folder for a file, below which there are no others."""
    for made in replay.outputs.values():
        for artifact in made.values():
            below = artifact.uri.removeprefix(f"{bucket.uri}/")
            assert bucket.markers(f"{below}/") == []


def test_nothing_is_left_of_unfinished_stages(replay, bucket: Bucket):
    assert bucket.names("root/checkpoints/") == []
