import dataclasses
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_ae.datasets.tiles import Tiles
from keras_ae.errors import ConfigurationError, StoppedError, StorageError, TrainingError
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.training import checkpoints
from keras_ae.training.ladder import Ladder
from keras_ae.training.state import ema_decay
from tests.keras_ae.training import two_processes
from tests.tiny import TINY

BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(not find_spec(name), reason="not installed"))
    for name in ("tensorflow", "jax", "torch")
]


def run(backend: str, *arguments: str) -> None:
    """Runs a module. On other backends TensorFlow is hidden, and XLA compiles in a third of the
    time."""
    program = "import sys, runpy; sys.argv = sys.argv[1:]; "
    environment = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if backend != "tensorflow":
        program += "sys.modules['tensorflow'] = None; "
        environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    program += "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_resumed_in_another_process_gives_the_same_bits(
    backend, tmp_path, optimized_graphs
):
    # TensorFlow trains with and without XLA.
    kinds = ["compiled", "plain"] if backend == "tensorflow" else ["compiled"]
    run(backend, "tests.keras_ae.training.two_processes", "interrupt", str(tmp_path), *kinds)
    if backend == "tensorflow":
        for kind in kinds:
            two_processes.resume(tmp_path / kind, kind)
    else:
        run(backend, "tests.keras_ae.training.two_processes", "resume", str(tmp_path), *kinds)
    for folder in (tmp_path / kind for kind in kinds):
        names = ("uninterrupted", "interrupted", "resumed")
        uninterrupted, interrupted, resumed = (
            dict(np.load(folder / f"{name}.npz")) for name in names
        )
        assert_equal(uninterrupted, resumed)
        weights = [name for name in resumed if "model/" in name]
        assert any(not np.array_equal(interrupted[n], resumed[n]) for n in weights)


def test_jax_crops_the_same_tiles_on_the_device_and_resumes_after_an_interruption(tmp_path):
    run("jax", "tests.keras_ae.training.jax_checks", str(tmp_path))


@pytest.fixture(scope="module")
def images(photographs) -> list[np.ndarray]:
    return [photograph[:96, :96] for photograph in photographs]


def make_ladder(images, preset=TINY) -> Ladder:
    """Six batches of four tiles, with two batches in a call."""
    model = ConvAutoencoder(preset)
    linear.set_linear_path(model, linear.fit(linear.patch_moments(images, 8), 8))
    return Ladder(model, Tiles(images, stride=8, size=32, batch_size=4))


@pytest.fixture(scope="module")
def compiled(images) -> tuple[Ladder, dict[str, np.ndarray]]:
    """A ladder whose steps are compiled only once, and its initial state."""
    ladder = make_ladder(images)
    return ladder, ladder.to_arrays()


@pytest.fixture
def ladder(compiled) -> Ladder:
    """A compiled ladder in its initial state."""
    ladder, initial = compiled
    ladder.assign(initial)
    return ladder


@pytest.fixture
def checkpoint_after_each_call(monkeypatch):
    """Makes training pause and save after each call of the compiled function."""
    monkeypatch.setattr("keras_ae.training.ladder.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("keras_ae.training.ladder.PAUSE_SECONDS", 0.0)


def error_of(ladder: Ladder) -> float:
    """The error of the EMA model on tiles that no test trains on."""
    batch = np.concatenate(list(ladder.tiles.epoch(1000))).astype("float32") / 255
    with ladder.ema_model() as model:
        return float(np.mean((np.asarray(model(batch)) - batch) ** 2))


def assert_equal(state: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Compares two states except for the time that they took."""
    assert state.keys() == expected.keys()
    for name in state.keys() - {"seconds"}:
        np.testing.assert_array_equal(state[name], expected[name], err_msg=name)


def test_training_lowers_the_error_of_the_ema_model(ladder):
    before = error_of(ladder)
    initial = ladder.to_arrays()
    summary = ladder.train(80)
    trained = ladder.to_arrays()
    assert error_of(ladder) < before
    assert (summary.start, summary.stop) == (0, 80)
    assert summary.seconds > 0
    assert summary.tiles_per_second == pytest.approx(24 * 80 / summary.seconds)
    # `ema_model` has restored the raw weights.
    assert any(
        not np.array_equal(initial[name], trained[name]) for name in initial if "model/" in name
    )
    assert_equal(ladder.to_arrays(), trained)


def test_status_lines_are_printed_after_each_epoch(images, monkeypatch):
    # On a slow machine they would also be printed within an epoch.
    monkeypatch.setattr("keras_ae.training.ladder.PAUSE_SECONDS", math.inf)
    lines = []
    ladder = make_ladder(images)
    ladder.train(3, status_lines=lambda ladder: [f"after {ladder.epoch}"] * 2, say=lines.append)
    assert lines == [f"after {epoch}" for epoch in (1, 1, 2, 2, 3, 3)]


def test_states_and_checkpoints_contain_the_losses_of_all_epochs(
    ladder, images, tmp_path, monkeypatch
):
    monkeypatch.setattr("keras_ae.training.ladder.CHECKPOINT_SECONDS", 0.0)
    losses = []
    ladder.train(2, on_epoch=lambda ladder: losses.append(ladder.loss))
    ladder.save(tmp_path / "state.npz")
    summary = ladder.train(4, checkpoint=tmp_path / "stage.npz")
    assert len(ladder.losses) == 4
    assert ladder.losses[:2] == losses
    assert ladder.losses[-1] == ladder.loss == summary.loss
    assert ladder.to_arrays()["losses"].dtype == np.float32

    other = make_ladder(images)
    other.restore(tmp_path / "stage.npz")
    assert other.losses == ladder.losses
    other.restore(tmp_path / "state.npz")
    assert other.losses == losses


def test_an_interrupted_stage_resumes_from_its_checkpoint(ladder, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_ae.training.ladder.CHECKPOINT_SECONDS", 0.0)
    checkpoint = tmp_path / "stage.npz"

    def interrupt(ladder: Ladder) -> None:
        if ladder.epoch == 3:
            raise KeyboardInterrupt

    initial = ladder.to_arrays()
    ladder.train(4)
    uninterrupted = ladder.to_arrays()
    ladder.assign(initial)
    with pytest.raises(KeyboardInterrupt):
        ladder.train(4, checkpoint=checkpoint, on_epoch=interrupt)
    ladder.assign(initial)
    epochs = []
    ladder.train(4, checkpoint=checkpoint, on_epoch=lambda ladder: epochs.append(ladder.epoch))
    assert epochs == [3, 4]
    assert_equal(ladder.to_arrays(), uninterrupted)


def test_after_a_damaged_checkpoint_training_resumes_from_the_previous_one(
    ladder, tmp_path, checkpoint_after_each_call
):
    checkpoint, positions, lines = tmp_path / "stage.npz", [], []
    initial = ladder.to_arrays()
    ladder.train(2, checkpoint=checkpoint, on_checkpoint=lambda: positions.append(ladder.position))
    assert [position.batches_done for position in positions] == [2, 4, 0] * 2
    uninterrupted = ladder.to_arrays()
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])

    ladder.assign(initial)
    ladder.train(2, checkpoint=checkpoint, say=lines.append)
    (line,) = lines
    assert "resuming from the previous one, in epoch 2" in line
    assert_equal(ladder.to_arrays(), uninterrupted)


def test_a_stage_that_must_stop_saves_its_state(ladder, images, tmp_path):
    answers = iter([False, True, True])
    with pytest.raises(StoppedError, match="stopped in epoch 1 as requested"):
        ladder.train(2, checkpoint=tmp_path / "stage.npz", should_stop=lambda: next(answers))
    assert ladder.position.batches_done == 4
    other = make_ladder(images)
    other.restore(tmp_path / "stage.npz")
    assert (other.epoch, other.position) == (0, ladder.position)


class MemoryHungryAutoencoder(ConvAutoencoder):
    """Fails with an out-of-memory error for more than `max_tiles` tiles."""

    max_tiles = 3

    def call(self, images, training=False):
        outputs = super().call(images, training=training)
        if images.shape[0] is not None and images.shape[0] > self.max_tiles:
            outputs += self.allocate()
        return outputs

    def allocate(self):
        """Fails at once. TensorFlow would retry a real allocation for ten seconds."""
        return tf.reduce_sum(tf.py_function(self._fail, [], tf.float32))

    def _fail(self):
        raise MemoryError


class HugeAutoencoder(MemoryHungryAutoencoder):
    """Allocates 64 TB, whatever the number of tiles."""

    max_tiles = 0

    def allocate(self):
        return tf.reduce_sum(tf.random.uniform((2**44,)))


def tiny_ladder(images, model_class=ConvAutoencoder) -> Ladder:
    """Two batches of nine tiles."""
    tiles = Tiles(images[:2], stride=8, size=32, batch_size=13, crops=9)
    return Ladder(model_class(TINY, seed=1), tiles)


@pytest.fixture(scope="module")
def reference(images) -> tuple[Ladder, dict[str, np.ndarray], list[float]]:
    """A ladder, its initial state, and its losses with enough memory."""
    ladder = tiny_ladder(images)
    assert ladder.tiles.batch_sizes == [9, 9]
    initial = ladder.to_arrays()
    ladder.train(3)
    return ladder, initial, ladder.losses


def test_a_batch_that_does_not_fit_into_memory_is_split_into_micro_batches(
    images, tmp_path, reference
):
    lines = []
    ladder = tiny_ladder(images, MemoryHungryAutoencoder)
    ladder.train(3, say=lines.append)
    assert lines == [
        "out of memory with 9 tiles at a time; continuing with 2 x 5, same batch size",
        "out of memory with 5 tiles at a time; continuing with 3 x 3, same batch size",
    ]
    np.testing.assert_allclose(ladder.losses, reference[2], rtol=1e-5)
    ladder.save(tmp_path / "state.npz")
    other = tiny_ladder(images)
    other.restore(tmp_path / "state.npz")
    assert other.micro_batch_size == 3


def test_steps_before_a_failed_one_are_not_repeated(
    reference, checkpoint_after_each_call, monkeypatch
):
    ladder, initial, losses = reference
    ladder.assign(initial)
    train_epoch = ladder._train_epoch

    def with_little_memory(epoch, start, micro_batch_size, should_yield):
        for position in train_epoch(epoch, start, micro_batch_size, should_yield):
            # The variables are then those of a step that failed halfway.
            if epoch == 1 and micro_batch_size == 9:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
            yield position

    monkeypatch.setattr(ladder, "_train_epoch", with_little_memory)
    lines, epochs = [], []
    ladder.train(3, say=lines.append, on_epoch=lambda ladder: epochs.append(ladder.epoch))
    assert lines == ["out of memory with 9 tiles at a time; continuing with 2 x 5, same batch size"]
    assert epochs == [1, 2, 3]
    np.testing.assert_allclose(ladder.losses, losses, rtol=1e-5)


def test_if_one_tile_does_not_fit_the_error_contains_the_failed_allocation(images):
    ladder = tiny_ladder(images, HugeAutoencoder)
    ladder.micro_batch_size = 1
    text = r"out of memory with a single tile of 32x32: OOM when allocating .*17592186044416"
    with pytest.raises(TrainingError, match=text):
        ladder.train(1)


def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_checkpoint(
    ladder, images, tmp_path, monkeypatch
):
    monkeypatch.setattr("keras_ae.training.ladder.CHECKPOINT_SECONDS", 0.0)
    checkpoint, train_epoch = tmp_path / "stage.npz", ladder._train_epoch

    def diverge(epoch: int, *arguments):
        for position in train_epoch(epoch, *arguments):
            yield position if epoch < 2 else position._replace(loss_sum=float("nan"))

    monkeypatch.setattr(ladder, "_train_epoch", diverge)
    with pytest.raises(TrainingError, match="nan in epoch 3"):
        ladder.train(5, checkpoint=checkpoint)
    restored = make_ladder(images)
    restored.restore(checkpoint)
    assert restored.epoch == 2
    assert all(np.isfinite(array).all() for array in restored.model.get_weights())


def test_weights_that_are_not_finite_never_replace_a_checkpoint(ladder, tmp_path):
    ladder.train(1)
    ladder.save(tmp_path / "state.npz")
    saved = (tmp_path / "state.npz").read_bytes()
    variable = ladder.model.trainable_variables[0]
    variable.assign(np.full(variable.shape, np.inf, "float32"))
    with pytest.raises(TrainingError, match="a weight is not finite after epoch 1"):
        ladder.save(tmp_path / "state.npz")
    assert (tmp_path / "state.npz").read_bytes() == saved


def test_a_state_of_another_model_is_refused(ladder, images, tmp_path):
    ladder.save(tmp_path / "state.npz")
    wider = dataclasses.replace(TINY, widths=(9,))
    with pytest.raises(TrainingError, match="another model"):
        make_ladder(images, wider).restore(tmp_path / "state.npz")


def test_a_state_without_the_losses_of_its_epochs_is_refused(ladder, tmp_path):
    ladder.train(2)
    arrays = ladder.to_arrays()
    checkpoints.write(tmp_path / "short.npz", {**arrays, "losses": arrays["losses"][:1]})
    checkpoints.write(tmp_path / "none.npz", {n: a for n, a in arrays.items() if n != "losses"})
    for name in ("short.npz", "none.npz"):
        with pytest.raises(TrainingError, match="another model"):
            ladder.restore(tmp_path / name)


def test_a_ladder_does_not_train_to_an_earlier_epoch(ladder):
    ladder.train(2)
    with pytest.raises(ConfigurationError, match="already at 2"):
        ladder.train(1)


def test_if_a_state_cannot_be_written_the_old_file_is_kept(ladder, tmp_path):
    (tmp_path / ".state.npz.partial").mkdir()
    (tmp_path / "state.npz").write_text("old")
    with pytest.raises(StorageError, match="cannot write the training state"):
        ladder.save(tmp_path / "state.npz")
    assert (tmp_path / "state.npz").read_text() == "old"


def test_the_ema_decay_rises_from_a_tenth_to_its_maximum():
    decays = [float(ema_decay(np.float32(step))) for step in (0, 90, 1e6)]
    assert decays == pytest.approx([0.1, 0.91, 0.999])
