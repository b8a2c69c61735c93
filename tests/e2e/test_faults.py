"""Kills, stops, a disk that is full, and damage to what earlier runs made, on small photographs."""

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.full_disk import Crowded
from benchmarks.kill_log import Event, Log, repeated
from benchmarks.kills import Ladder as Disturbed
from benchmarks.kills import photographs, verdict
from keras_ae import linear
from keras_ae.errors import StorageError
from keras_ae.export import export
from keras_ae.tiles import Tiles
from keras_ae.training import Ladder, begin
from pipeline import local
from pipeline.model_files import STATE
from tests.disks import filled, small_disk
from tests.e2e.runs import Run

pytestmark = pytest.mark.slow
# Training is long enough to be hit again and again.
FLAGS = ("--preset", "small", "--budgets", "1,150", "--seed", "1")
ROOT = "killed and full/root"
FULL = "No space left on device; what earlier runs made is kept"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("faults")
    photographs(place / "images")
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
def undisturbed(place) -> tuple[Disturbed, dict[str, float]]:
    """A run that is left alone, and what its steps took."""
    run = Disturbed(place / "undisturbed", flags(place))
    return run, run.finish()


@pytest.fixture(scope="module")
def disturbed(place, small, undisturbed) -> Crowded:
    """A run that is killed and stopped, whose disk is full, and which ends nevertheless."""
    _, usual = undisturbed
    run = Crowded(place / Path(ROOT).parent, flags(place))

    assert not small or run.crowd("ImageExampleGen", 0)
    assert run.kill("Transform", 0.6 * usual["Transform"])
    assert run.status == -signal.SIGKILL

    assert not small or run.crowd("Trainer_1", 0)
    assert run.kill("Trainer_150", 0, ready=lambda: epochs(run) > 20, number=signal.SIGTERM)
    assert_it_says_how_to_go_on(run, signal.SIGTERM)
    assert list(run.root.glob("checkpoints/*.npz"))
    trained = epochs(run)

    assert run.kill("Trainer_150", 0, ready=lambda: epochs(run) > trained + 20)
    assert repeated(events(run)) == []

    assert run.kill("Evaluator", 0.3 * usual["Evaluator"], number=signal.SIGINT)
    assert_it_says_how_to_go_on(run, signal.SIGINT)
    (again,) = repeated(events(run))
    assert again.first > 20

    assert not small or run.crowd("Pusher", 0)
    assert run.kill("Pusher", 0.5 * usual["Pusher"])
    run.finish()
    return run


@pytest.fixture(scope="module")
def repaired(place, disturbed) -> Run:
    """After a broken store, a byte of the examples, a model that is gone and a broken result."""
    root = place / ROOT
    before = states(root)
    (examples,) = root.glob("artifacts/*/ImageExampleGen/examples/*/Split-train/*.gz")
    turn_a_byte(examples)
    (model,) = root.glob("artifacts/*/Trainer_150/model/*")
    shutil.rmtree(model / "Format-Serving")
    (root / "metadata.sqlite").write_bytes(b"no database")
    (root / "comparison.json").write_bytes(b"\0")
    run = Run(place, *FLAGS, root=ROOT)
    assert states(root).keys() == before.keys()
    for name, state in states(root).items():
        assert all(np.array_equal(state[n], before[name][n]) for n in state if n != "seconds")
    return run


def flags(place: Path) -> list[str]:
    return [*FLAGS, "--data", str(place / "images")]


def events(run: Disturbed) -> list[Event]:
    """Of the stage that is long."""
    return [event for event in Log(run.root / "logs").events if event.step == "Trainer_150"]


def epochs(run: Disturbed) -> int:
    """How often one was trained."""
    return sum(event.kind == "epoch" for event in events(run))


def assert_it_says_how_to_go_on(run: Disturbed, number: signal.Signals) -> None:
    assert run.status == 128 + number
    line = run.said.splitlines()[-1]
    assert line.startswith(f"stopped by {number.name}; to go on: python pipeline/run_local.py ")
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
    assert verdict(disturbed, undisturbed[0]) == []


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
    assert re.search(r"/Trainer_150/\S+ is gone; Trainer_150 runs again$", model)
    assert re.search(r"\S+\.gz is not what was written; ImageExampleGen runs again$", examples)
    assert json.loads((place / ROOT / "comparison.json").read_text())["chosen"]


def test_what_is_whole_is_not_made_anew(repaired):
    again = {node for node in repaired.nodes if not repaired.cached(node)}
    assert {"ImageExampleGen", "Trainer_150", "BudgetComparison"} <= again
    assert {"StatisticsGen", "SchemaGen", "Transform", "Trainer_1"}.isdisjoint(again)


@pytest.fixture(scope="module")
def ladder() -> Ladder:
    images = [np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)]
    ladder = begin("small", Tiles(images, stride=8), floor(images))
    ladder.climb(1)
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
        cause = local._cause(caught.value)
        assert isinstance(cause, StorageError)
        assert str(cause).startswith("cannot write")
        assert str(cause).endswith(FULL)
