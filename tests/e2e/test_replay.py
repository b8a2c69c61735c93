"""The compiled pipeline, executed as Kubeflow would, gives what a local run gives.

All that it makes lies in a bucket, as Kubeflow has it.
"""

import json
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow as tf
from PIL import Image

from keras_ae.datasets.sample_photos import path_of
from pipeline import kubeflow
from pipeline.components.pusher.executor import model_digest
from pipeline.model_files import STATE
from pipeline.run_kubeflow import parse_arguments
from tests.e2e.replay import Replay
from tests.e2e.runs import Run
from tests.gcs import Bucket
from tests.listening import is_loopback

pytestmark = pytest.mark.slow
TRAINED = ["--preset", "small", "--seed", "3"]
COMPILED = ["--budgets", "1,2", "--tile", "64"]
PHOTOGRAPHS = ("skimage/chelsea.png", "skimage/coffee.png", "sklearn/china.jpg")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("replay")
    (place / "images").mkdir()
    for name in PHOTOGRAPHS:
        photograph = Image.open(path_of(name)).convert("RGB")
        for i in range(4):
            part = photograph.crop((70 * i, 40 * i, 70 * i + 160, 40 * i + 120))
            part.save(place / "images" / f"{Path(name).stem}-{i}.png")
    return place


@pytest.fixture(scope="module")
def run(place) -> Run:
    """With two workers, where the containers have one: an engine changes no result either."""
    run = Run(place, *COMPILED, *TRAINED, "--workers", "2")
    assert (run.status, run.errors) == (0, "")
    return run


@pytest.fixture(scope="module")
def replay(place, run, bucket) -> Replay:
    """The local run's flags, and its model as the one in service."""
    (served,) = place.glob("root/artifacts/*/BudgetComparison/model/*")
    root = f"{bucket.uri}/root"
    places = ["--image", "keras-ae:1", "--pipeline-root", root, "--output", "pipeline.yaml"]
    places += ["--data", bucket.put(place / "images", "images")]
    places += ["--incumbent-uri", bucket.put(served, "served")]
    # What a run is given stands in for what the pipeline was compiled with.
    text = kubeflow.compiled(parse_arguments([*places, *COMPILED]))
    given = {"data_fingerprint": "v1", "preset": "small", "seed": 3}
    replay = Replay(text, root, given, place / "containers", bucket.environment)
    replay.run()
    return replay


@pytest.fixture(scope="module")
def outputs(place, replay, bucket):
    """A local copy of what a task made: outputs(task, name) -> folder."""

    def copied(task: str, name: str) -> Path:
        below = replay.outputs[task][name].uri.removeprefix(f"{bucket.uri}/")
        return bucket.get(below, place / "copies" / task / name)

    return copied


def running() -> list[psutil.Process]:
    return list(psutil.process_iter(["cwd"]))


def test_no_worker_outlives_the_local_run(place, run):
    # Workers name no folder on their command lines, but they are started where the run was.
    assert place not in {process.info["cwd"] and Path(process.info["cwd"]) for process in running()}


def test_workers_and_what_they_talk_to_are_reached_from_this_machine_only(run):
    # Beam's servers for control, data, state and logs, once for each step that has workers.
    assert len(run.listened) > 4
    assert {address for address, _ in run.listened if not is_loopback(address)} == set()


def test_every_stage_has_the_weights_of_the_local_run(place, outputs):
    for budget in (1, 2):
        (path,) = place.glob(f"root/artifacts/*/Trainer_{budget}/model/*/{STATE}")
        ours, theirs = np.load(outputs(f"Trainer-{budget}", "model") / STATE), np.load(path)
        assert set(ours) == set(theirs)
        for name in set(ours) - {"seconds"}:
            assert np.array_equal(ours[name], theirs[name]), name


def test_the_comparison_has_the_numbers_of_the_local_run(place, outputs):
    report = outputs("Report", "report")
    ours = json.loads((report / "comparison.json").read_text())
    theirs = json.loads((place / "root" / "comparison.json").read_text())
    assert ours["chosen"] == theirs["chosen"]
    assert timeless(ours) == timeless(theirs)
    assert (report / "images.jsonl").read_text() == (place / "root" / "images.jsonl").read_text()
    assert (report / "report.html").stat().st_size > 10_000
    told = ours["run"]
    assert (told["preset"], told["seed"], told["seeds"]) == ("small", 3, [3])
    assert told["data_fingerprint"] == "v1"
    nodes = {entry["name"]: entry["node"] for entry in told["lineage"]}
    assert nodes["model_1"] == "Trainer-1"
    assert nodes["in_service"] is None


def test_the_chosen_model_is_pushed_and_answers_as_the_local_one(place, outputs, bucket: Bucket):
    versions = {name.split("/")[3] for name in bucket.names("root/serving/keras_ae/")}
    (version,) = (name for name in versions if name.isdigit())
    ours = bucket.get(f"root/serving/keras_ae/{version}", place / "pushed" / version)
    (theirs,) = (place / "root" / "serving" / "keras_ae").iterdir()
    made = outputs("BudgetComparison", "model") / "Format-Serving"
    told = json.loads((ours / "assets.extra" / "keras_ae.json").read_text())
    assert told["digest"] == model_digest(made)
    variables = "variables/variables.data-00000-of-00001"
    assert (ours / variables).read_bytes() == (theirs / variables).read_bytes()
    image = [(place / "images" / "coffee-0.png").read_bytes()]
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


def timeless(comparison: dict) -> dict:
    """Without what differs from run to run: seconds, the run itself, and what was in service."""

    def kept(value):
        if isinstance(value, dict):
            return {k: kept(v) for k, v in value.items() if "second" not in k}
        return [kept(each) for each in value] if isinstance(value, list) else value

    return kept({k: v for k, v in comparison.items() if k not in ("run", "verdict")})
