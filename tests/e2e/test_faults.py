"""Kills, stops, a disk that is full, and damage to what earlier runs made, on small photographs."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow as tf

from keras_ae.datasets.tiles import Tiles
from keras_ae.errors import StorageError
from keras_ae.models import linear
from keras_ae.saved_model.export import export
from keras_ae.training.ladder import Ladder, begin
from pipeline.runners.local import runner
from pipeline.runtime.artifacts import STATE
from tests.disks import filled, small_disk
from tests.e2e.runs import ENVIRONMENT, FLAGS, LONG, Run, timeless
from tests.endurance.full_disk import Crowded
from tests.endurance.kill_log import Event, Log, repeated
from tests.endurance.kills import Ladder as Disturbed
from tests.endurance.kills import verdict
from tests.listening import is_loopback
from tests.tiny import TINY

STAGE = f"Trainer_{LONG}"
ROOT = "killed and full/root"
FULL = "No space left on device; what earlier runs made is kept"


@pytest.fixture(scope="module")
def place(tmp_path_factory, finished) -> Path:
    place = tmp_path_factory.mktemp("faults")
    shutil.copytree(finished / "images", place / "images")
    return place


@pytest.fixture(scope="module")
def small(place) -> Iterator[bool]:
    """Whether the root lies on a small disk, which not everybody may mount."""
    try:
        with small_disk(place / ROOT, "256m"):
            yield True
    except pytest.skip.Exception:
        yield False


@pytest.fixture(scope="module")
def undisturbed(place, finished) -> Path:
    """The root of a run that was left alone, on the same images elsewhere."""
    root = shutil.copytree(finished / "root", place / "undisturbed")
    comparison = json.loads((root / "comparison.json").read_text())
    comparison["run"]["data"] = str(place / "images")
    (root / "comparison.json").write_text(json.dumps(comparison))
    return root


@pytest.fixture(scope="module")
def disturbed(place, small, start, forks) -> Crowded:
    """A run that is killed and stopped, whose disk is full, and which ends nevertheless."""
    run = Crowded(place / Path(ROOT).parent, [*FLAGS, "--data", str(place / "images")])

    def starting(words, *, env, start=start, **others):
        return start(words, env={**env, **ENVIRONMENT}, **others)

    run.start = starting
    assert not small or run.crowd("ImageExampleGen", 0)
    run.start = partial(starting, start=subprocess.Popen)
    assert run.kill("Transform", 0, ready=lambda: made_by(run, "Transform/transform_graph"))
    assert run.status == -signal.SIGKILL
    run.start = starting

    assert not small or run.crowd("Trainer_1", 0)
    assert run.kill(STAGE, 0, ready=lambda: epochs(run) > 20, number=signal.SIGTERM)
    assert_it_says_how_to_go_on(run, signal.SIGTERM)
    assert list(run.root.glob("checkpoints/*.npz"))
    trained = epochs(run)

    assert run.kill(STAGE, 0, ready=lambda: epochs(run) > trained + 20)
    assert repeated(events(run)) == []

    # The server that is to check the model is there by then, and does not outlive the run.
    run.start = partial(starting, start=forks.start)
    assert run.kill("Evaluator", 0.5, number=signal.SIGINT)
    run.start = starting
    assert_it_says_how_to_go_on(run, signal.SIGINT)
    (again,) = repeated(events(run))
    assert again.first > 20

    assert not small or run.crowd("Pusher", 0)
    assert run.kill("Pusher", 0)
    run.finish()
    return run


@pytest.fixture(scope="module")
def repaired(place, disturbed, start) -> Run:
    """After a broken store, a byte of the examples, a model that is gone and a broken result."""
    root = place / ROOT
    before = states(root)
    (examples,) = root.glob("artifacts/*/ImageExampleGen/examples/*/Split-train/*.gz")
    turn_a_byte(examples)
    (model,) = root.glob(f"artifacts/*/{STAGE}/model/*")
    shutil.rmtree(model / "Format-Serving")
    (root / "metadata.sqlite").write_bytes(b"no database")
    (root / "comparison.json").write_bytes(b"\0")
    run = Run(place, *FLAGS, root=ROOT, start=start)
    assert states(root).keys() == before.keys()
    for name, state in states(root).items():
        assert all(np.array_equal(state[n], before[name][n]) for n in state if n != "seconds")
    return run


@pytest.fixture(scope="module")
def by_workers(place, repaired, start) -> tuple[Run, list[dict]]:
    """With two workers, a comparison made anew, upon which it is stopped.

    Returns:
        The run, and the comparisons of those before it and its own.
    """

    def made() -> list[Path]:
        return sorted((place / ROOT).glob("artifacts/*/BudgetComparison/comparison/*/*.json"))

    before = [json.loads(path.read_text()) for path in made()]
    for path in made():
        turn_a_byte(path)
    until = "  BudgetComparison "
    run = Run(place, *FLAGS, "--workers", "2", root=ROOT, start=start, until=until)
    assert not run.cached("BudgetComparison")
    (path,) = made()
    return run, [*before, json.loads(path.read_text())]


def made_by(run: Disturbed, output: str) -> bool:
    """Whether a node has begun to write an output."""
    return any(run.root.glob(f"artifacts/*/{output}/*/*"))


def events(run: Disturbed) -> list[Event]:
    """Of the stage that is long."""
    return [event for event in Log(run.root / "logs").events if event.step == STAGE]


def epochs(run: Disturbed) -> int:
    """How often one was trained."""
    return sum(event.kind == "epoch" for event in events(run))


def assert_it_says_how_to_go_on(run: Disturbed, number: signal.Signals) -> None:
    assert run.status == 128 + number
    line = run.said.splitlines()[-1]
    assert line.startswith(
        f"stopped by {number.name}; to resume, run: python pipeline/run_local.py "
    )
    assert f"--root '{run.root}'" in line


def states(root: Path) -> dict[str, dict[str, np.ndarray]]:
    """The training states, by node."""
    found = sorted(root.glob(f"artifacts/*/Trainer_*/model/*/{STATE}"))
    return {path.parts[-5]: dict(np.load(path)) for path in found}


def turn_a_byte(path: Path) -> None:
    """As a disk would: size and time stay."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_run_that_is_killed_stopped_and_without_space_ends_as_an_undisturbed_one(
    disturbed, undisturbed, small
):
    assert disturbed.runs == (9 if small else 6)
    assert verdict(disturbed, undisturbed) == []


def test_a_full_disk_is_told_in_one_line_and_the_same_command_goes_on_when_there_is_space(
    disturbed, small
):
    if not small:
        pytest.skip("a small disk takes root to mount")
    steps = [(step, status) for step, status, _ in disturbed.ended]
    assert steps == [("ImageExampleGen", 1), ("Trainer_1", 1), ("Pusher", 1)]
    for _, _, said in disturbed.ended:
        assert re.fullmatch(r"keras-ae: .*\n(  .*\n|\n)*error: cannot .*\n", said), said
    assert disturbed.done
    assert not re.search(r"damaged|error|warning|Traceback", disturbed.said, re.IGNORECASE)


def test_what_is_damaged_is_named_and_made_anew(repaired, place):
    assert (repaired.status, repaired.errors) == (0, "")
    store, *artifacts = re.findall(rf"^damaged: {place / ROOT}/(.*)$", repaired.out, re.MULTILINE)
    broken = "metadata.sqlite is broken: file is not a database"
    assert store == f"{broken}; its copy of the last run takes its place"
    model, examples = sorted(artifacts, key=lambda line: "ImageExampleGen" in line)
    assert re.search(rf"/{STAGE}/\S+ is gone; {STAGE} runs again$", model)
    assert re.search(r"\S+\.gz is not what was written; ImageExampleGen runs again$", examples)
    assert json.loads((place / ROOT / "comparison.json").read_text())["chosen"]


def test_what_is_whole_is_not_made_anew(repaired):
    again = {node for node in repaired.nodes if not repaired.cached(node)}
    assert {"ImageExampleGen", STAGE, "BudgetComparison"} <= again
    assert {"StatisticsGen", "SchemaGen", "Transform", "Trainer_1"}.isdisjoint(again)


def test_workers_change_no_result(by_workers):
    _, (*others, made) = by_workers
    assert [timeless(other) for other in others] == [timeless(made)] * len(others)


def test_no_worker_outlives_its_run(by_workers, place):
    # Workers name no folder on their command lines, but they are started where the run was.
    folders = [process.info["cwd"] for process in psutil.process_iter(["cwd"])]
    assert str(place) not in folders


def test_workers_and_what_they_talk_to_are_reached_from_this_machine_only(by_workers):
    run, _ = by_workers
    # Beam's servers for control, data, state and logs.
    assert len(run.listened) >= 4
    assert {address for address, _ in run.listened if not is_loopback(address)} == set()


@pytest.fixture(scope="module")
def ladder() -> Ladder:
    images = [np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)]
    ladder = begin(TINY, Tiles(images, stride=8), floor(images))
    ladder.train(1)
    return ladder


def floor(images) -> linear.PatchPCA:
    return linear.fit(linear.patch_moments(images, 8), 8)


def test_a_checkpoint_on_a_full_disk_keeps_the_earlier_one(ladder, tmp_path):
    with small_disk(tmp_path / "disk", "8m") as disk:
        path = disk / "checkpoint.npz"
        ladder.save(path)
        earlier = path.read_bytes()
        with (
            filled(disk, leave=100_000),
            pytest.raises(StorageError, match="No space left on device"),
        ):
            ladder.save(path)
        assert path.read_bytes() == earlier
        ladder.save(path)
        ladder.restore(path)


def test_an_export_on_a_full_disk_says_so(ladder, tmp_path):
    with small_disk(tmp_path / "disk", "16m") as disk:
        pca = floor([np.zeros((64, 64, 3), np.uint8)])
        with (
            filled(disk, leave=100_000),
            pytest.raises((OSError, tf.errors.OpError)) as caught,
        ):
            export(ladder.model, disk / "model", floor=pca)
        cause = runner._cause(caught.value)
        assert isinstance(cause, StorageError)
        assert str(cause).startswith("cannot write")
        assert str(cause).endswith(FULL)
