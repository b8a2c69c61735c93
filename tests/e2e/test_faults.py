"""Kills, stops, full disks, and damaged files of earlier runs, on small photographs."""

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
from keras_ae.training.ladder import Ladder, create_ladder
from pipeline.runners.local import runner
from pipeline.runtime.artifacts import STATE
from tests.disks import filled, small_disk
from tests.e2e.runs import ENVIRONMENT, FLAGS, LONG, Run, comparison_results
from tests.endurance.full_disk import FullDiskRun
from tests.endurance.kill_log import Event, Log, find_repeated_epochs
from tests.endurance.kills import InterruptedRun, find_faults
from tests.listening import is_loopback
from tests.tiny import TINY

STAGE = f"Trainer_{LONG}"
ROOT = "killed and full/root"
NO_SPACE = "No space left on device; what earlier runs made is kept"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, finished) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    shutil.copytree(finished / "images", folder / "images")
    return folder


@pytest.fixture(scope="module")
def on_small_disk(folder) -> Iterator[bool]:
    """Whether the root is on a small disk, whose mounting needs root privileges."""
    try:
        with small_disk(folder / ROOT, "256m"):
            yield True
    except pytest.skip.Exception:
        yield False


@pytest.fixture(scope="module")
def uninterrupted(folder, finished) -> Path:
    """The root of an uninterrupted run on a copy of the images."""
    root = shutil.copytree(finished / "root", folder / "uninterrupted")
    comparison = json.loads((root / "comparison.json").read_text())
    comparison["run"]["data"] = str(folder / "images")
    (root / "comparison.json").write_text(json.dumps(comparison))
    return root


@pytest.fixture(scope="module")
def interrupted(folder, on_small_disk, start, forks) -> FullDiskRun:
    """A run that is killed, stopped and without disk space before it ends."""
    run = FullDiskRun(folder / Path(ROOT).parent, [*FLAGS, "--data", str(folder / "images")])

    def start_run(command, *, env, start=start, **options):
        return start(command, env={**env, **ENVIRONMENT}, **options)

    run.start = start_run
    assert not on_small_disk or run.fill_disk("ImageExampleGen", 0)
    run.start = partial(start_run, start=subprocess.Popen)
    assert run.kill("Transform", 0, ready=lambda: has_output(run, "Transform/transform_graph"))
    assert run.status == -signal.SIGKILL
    run.start = start_run

    assert not on_small_disk or run.fill_disk("Trainer_1", 0)
    assert run.kill(STAGE, 0, ready=lambda: count_epochs(run) > 20, number=signal.SIGTERM)
    assert_prints_command_to_resume(run, signal.SIGTERM)
    assert list(run.root.glob("checkpoints/*.npz"))
    trained = count_epochs(run)

    assert run.kill(STAGE, 0, ready=lambda: count_epochs(run) > trained + 20)
    assert find_repeated_epochs(stage_events(run)) == []

    # The server of ServingCheck runs by then, and must end with the run.
    run.start = partial(start_run, start=forks.start)
    assert run.kill("Evaluator", 0.5, number=signal.SIGINT)
    run.start = start_run
    assert_prints_command_to_resume(run, signal.SIGINT)
    (repeated,) = find_repeated_epochs(stage_events(run))
    assert repeated.first > 20

    assert not on_small_disk or run.fill_disk("Pusher", 0)
    assert run.kill("Pusher", 0)
    run.finish()
    return run


@pytest.fixture(scope="module")
def repaired(folder, interrupted, start) -> Run:
    """A run after damage to the metadata store, the examples, a model and the comparison."""
    root = folder / ROOT
    before = states(root)
    (examples,) = root.glob("artifacts/*/ImageExampleGen/examples/*/Split-train/*.gz")
    corrupt_byte(examples)
    (model,) = root.glob(f"artifacts/*/{STAGE}/model/*")
    shutil.rmtree(model / "Format-Serving")
    (root / "metadata.sqlite").write_bytes(b"no database")
    (root / "comparison.json").write_bytes(b"\0")
    run = Run(folder, *FLAGS, root=ROOT, start=start)
    assert states(root).keys() == before.keys()
    for name, state in states(root).items():
        assert all(np.array_equal(state[n], before[name][n]) for n in state if n != "seconds")
    return run


@pytest.fixture(scope="module")
def with_workers(folder, repaired, start) -> tuple[Run, list[dict]]:
    """A run with two workers that repeats the comparison and is stopped after it.

    Returns:
        The run, and the comparisons of the runs before it and its own.
    """

    def comparison_files() -> list[Path]:
        return sorted((folder / ROOT).glob("artifacts/*/BudgetComparison/comparison/*/*.json"))

    before = [json.loads(path.read_text()) for path in comparison_files()]
    for path in comparison_files():
        corrupt_byte(path)
    until = "  BudgetComparison "
    run = Run(folder, *FLAGS, "--workers", "2", root=ROOT, start=start, until=until)
    assert not run.is_cached("BudgetComparison")
    (path,) = comparison_files()
    return run, [*before, json.loads(path.read_text())]


def has_output(run: InterruptedRun, output: str) -> bool:
    """Whether a node has begun to write an output."""
    return any(run.root.glob(f"artifacts/*/{output}/*/*"))


def stage_events(run: InterruptedRun) -> list[Event]:
    """The events of the long stage."""
    return [event for event in Log(run.root / "logs").events if event.step == STAGE]


def count_epochs(run: InterruptedRun) -> int:
    """The number of epochs of the long stage that were trained, including repeated ones."""
    return sum(event.kind == "epoch" for event in stage_events(run))


def assert_prints_command_to_resume(run: InterruptedRun, number: signal.Signals) -> None:
    assert run.status == 128 + number
    line = run.output.splitlines()[-1]
    assert line.startswith(
        f"stopped by {number.name}; to resume, run: python pipeline/run_local.py "
    )
    assert f"--root '{run.root}'" in line


def states(root: Path) -> dict[str, dict[str, np.ndarray]]:
    """The training states, by node."""
    paths = sorted(root.glob(f"artifacts/*/Trainer_*/model/*/{STATE}"))
    return {path.parts[-5]: dict(np.load(path)) for path in paths}


def corrupt_byte(path: Path) -> None:
    """Changes a byte of a file but not its size and time, as a faulty disk does."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_run_that_is_killed_stopped_and_without_space_has_the_results_of_an_uninterrupted_one(
    interrupted, uninterrupted, on_small_disk
):
    assert interrupted.starts == (9 if on_small_disk else 6)
    assert find_faults(interrupted, uninterrupted) == []


def test_a_full_disk_is_reported_in_one_line_and_the_same_command_resumes_when_there_is_space(
    interrupted, on_small_disk
):
    if not on_small_disk:
        pytest.skip("mounting a small disk needs root privileges")
    steps = [(step, status) for step, status, _ in interrupted.ends]
    assert steps == [("ImageExampleGen", 1), ("Trainer_1", 1), ("Pusher", 1)]
    for _, _, output in interrupted.ends:
        assert re.fullmatch(r"keras-ae: .*\n(  .*\n|splits: .*\n|\n)*error: cannot .*\n", output), (
            output
        )
    assert interrupted.done
    assert not re.search(r"damaged|error|warning|Traceback", interrupted.output, re.IGNORECASE)


def test_damaged_files_are_named_and_written_again(repaired, folder):
    assert (repaired.status, repaired.errors) == (0, "")
    store, *artifacts = re.findall(rf"^damaged: {folder / ROOT}/(.*)$", repaired.out, re.MULTILINE)
    broken = "metadata.sqlite is broken: file is not a database"
    assert store == f"{broken}; restored from the copy of the last run"
    model, examples = sorted(artifacts, key=lambda line: "ImageExampleGen" in line)
    assert re.search(rf"/{STAGE}/\S+ is gone; {STAGE} runs again$", model)
    assert re.search(r"\S+\.gz is not what was written; ImageExampleGen runs again$", examples)
    assert json.loads((folder / ROOT / "comparison.json").read_text())["chosen"]


def test_undamaged_outputs_are_reused(repaired):
    executed = {node for node in repaired.nodes if not repaired.is_cached(node)}
    assert {"ImageExampleGen", STAGE, "BudgetComparison"} <= executed
    assert {"StatisticsGen", "SchemaGen", "Transform", "Trainer_1"}.isdisjoint(executed)


def test_workers_do_not_change_results(with_workers):
    _, (*earlier, last) = with_workers
    results = comparison_results(last)
    assert [comparison_results(comparison) for comparison in earlier] == [results] * len(earlier)


def test_no_worker_outlives_its_run(with_workers, folder):
    # The command lines of workers contain no path, but their working directory is the run's.
    folders = [process.info["cwd"] for process in psutil.process_iter(["cwd"])]
    assert str(folder) not in folders


def test_workers_and_beam_servers_are_reached_from_this_machine_only(with_workers):
    run, _ = with_workers
    # Beam's servers for control, data, state and logs.
    assert len(run.listened) >= 4
    assert {address for address, _ in run.listened if not is_loopback(address)} == set()


@pytest.fixture(scope="module")
def ladder() -> Ladder:
    images = [np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)]
    ladder = create_ladder(TINY, Tiles(images, stride=8), floor(images))
    ladder.train(1)
    return ladder


def floor(images: list[np.ndarray]) -> linear.PatchPCA:
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


def test_an_export_to_a_full_disk_names_the_reason(ladder, tmp_path):
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
        assert str(cause).endswith(NO_SPACE)
