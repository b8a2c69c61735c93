"""A disk that is full, and damage to what earlier runs made, on a folder of small photographs."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.full_disk import Crowded
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
FLAGS = ("--budgets", "1,2", "--preset", "small")
ROOT = "full/root"
FULL = "No space left on device; what earlier runs made is kept"


@pytest.fixture(scope="module")
def disk(place) -> Iterator[Path]:
    with small_disk(place / ROOT, "256m") as disk:
        yield disk


@pytest.fixture(scope="module")
def first(place, disk) -> Crowded:
    """On a disk that was full in three of its steps."""
    run = Crowded(disk.parent, [*FLAGS, "--data", str(place / "images")])
    for step in ("ImageExampleGen", "Trainer_2", "Pusher"):
        assert run.crowd(step, 0)
    run.finish()
    return run


@pytest.fixture(scope="module")
def repaired(place, first) -> Run:
    """After a broken store, a byte of the examples, a model that is gone and a broken result."""
    root = place / ROOT
    before = states(root)
    (examples,) = root.glob("artifacts/*/ImageExampleGen/examples/*/Split-train/*.gz")
    turn_a_byte(examples)
    (model,) = root.glob("artifacts/*/Trainer_2/model/*")
    shutil.rmtree(model / "Format-Serving")
    (root / "metadata.sqlite").write_bytes(b"no database")
    (root / "comparison.json").write_bytes(b"\0")
    run = Run(place, *FLAGS, root=ROOT)
    assert states(root).keys() == before.keys()
    for name, state in states(root).items():
        assert all(np.array_equal(state[n], before[name][n]) for n in state if n != "seconds")
    return run


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


def test_a_full_disk_is_told_in_one_line_and_the_same_command_goes_on_when_there_is_space(first):
    steps = [(step, status) for step, status, _ in first.ended]
    assert steps == [("ImageExampleGen", 1), ("Trainer_2", 1), ("Pusher", 1)]
    assert first.wrong == []
    for _, _, said in first.ended:
        assert re.fullmatch(r"keras-ae: .*\n(  .*\n|\n)*error: cannot .*\n", said), said
    assert first.done
    assert not re.search(r"damaged|error|warning|Traceback", first.said, re.IGNORECASE)


def test_what_is_damaged_is_named_and_made_anew(repaired, place):
    assert (repaired.status, repaired.errors) == (0, "")
    store, *artifacts = re.findall(rf"^damaged: {place / ROOT}/(.*)$", repaired.out, re.MULTILINE)
    broken = "metadata.sqlite is broken: file is not a database"
    assert store == f"{broken}; its copy of the last run takes its place"
    model, examples = sorted(artifacts, key=lambda line: "ImageExampleGen" in line)
    assert re.search(r"/Trainer_2/\S+ is gone; Trainer_2 runs again$", model)
    assert re.search(r"\S+\.gz is not what was written; ImageExampleGen runs again$", examples)
    assert json.loads((place / ROOT / "comparison.json").read_text())["chosen"]


def test_what_is_whole_is_not_made_anew(repaired):
    again = {node for node in repaired.nodes if not repaired.cached(node)}
    assert {"ImageExampleGen", "Trainer_2", "BudgetComparison"} <= again
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
