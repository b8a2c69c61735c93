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
from keras_ae.training.state import average_decay
from tests.keras_ae.training import climbing
from tests.tiny import TINY

BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(not find_spec(name), reason="not installed"))
    for name in ("tensorflow", "jax", "torch")
]


def run(backend: str, *arguments: str) -> None:
    """Runs a module; on another backend there is no TensorFlow, and XLA compiles in a third of the
    time."""
    program = "import sys, runpy; sys.argv = sys.argv[1:]; "
    environment = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if backend != "tensorflow":
        program += "sys.modules['tensorflow'] = None; "
        environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    program += "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
    subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[3],
        check=True,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_epoch_in_two_processes_gives_the_same_bits_as_in_one(backend, tmp_path):
    # With XLA and without; elsewhere there is one way.
    kinds = ["compiled", "plain"] if backend == "tensorflow" else ["compiled"]
    run(backend, "tests.keras_ae.training.climbing", "begin", str(tmp_path), *kinds)
    if backend == "tensorflow":
        for kind in kinds:
            climbing.go_on(tmp_path / kind, kind)
    else:
        run(backend, "tests.keras_ae.training.climbing", "go_on", str(tmp_path), *kinds)
    for place in (tmp_path / kind for kind in kinds):
        names = ("whole", "half", "rest")
        whole, half, rest = (dict(np.load(place / f"{name}.npz")) for name in names)
        assert_equal(whole, rest)
        assert any(not np.array_equal(half[n], rest[n]) for n in half if "model/" in n)


def test_jax_cuts_the_tiles_of_the_host_on_the_device_and_survives_an_interruption(tmp_path):
    run("jax", "tests.keras_ae.training.on_jax", str(tmp_path))


@pytest.fixture(scope="module")
def images(photographs) -> list[np.ndarray]:
    return [photograph[:96, :96] for photograph in photographs]


def make_ladder(images, preset=TINY) -> Ladder:
    """Six batches of four tiles, two in a call."""
    model = ConvAutoencoder(preset)
    linear.set_linear_path(model, linear.fit(linear.patch_moments(images, 8), 8))
    return Ladder(model, Tiles(images, stride=8, size=32, batch_size=4))


@pytest.fixture(scope="module")
def compiled(images) -> tuple[Ladder, dict[str, np.ndarray]]:
    """A ladder, whose steps are compiled once, and its initial state."""
    ladder = make_ladder(images)
    return ladder, ladder.arrays()


@pytest.fixture
def ladder(compiled) -> Ladder:
    """In its initial state."""
    ladder, start = compiled
    ladder.assign(start)
    return ladder


@pytest.fixture
def often(monkeypatch):
    """Lets an epoch be left after each call, and saves each time."""
    monkeypatch.setattr("keras_ae.training.ladder.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("keras_ae.training.ladder.PAUSE_SECONDS", 0.0)


def error_of(ladder: Ladder) -> float:
    """On tiles that no epoch here trains on."""
    batch = np.concatenate(list(ladder.tiles.epoch(1000))).astype("float32") / 255
    with ladder.averaged() as model:
        return float(np.mean((np.asarray(model(batch)) - batch) ** 2))


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Of two states, but for the time that they took."""
    assert one.keys() == other.keys()
    for name in one.keys() - {"seconds"}:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_training_lowers_the_error_of_the_averaged_model(ladder):
    before = error_of(ladder)
    start = ladder.arrays()
    summary = ladder.train(80)
    trained = ladder.arrays()
    assert error_of(ladder) < before
    assert (summary.start, summary.stop) == (0, 80)
    assert summary.seconds > 0
    assert summary.tiles_per_second == pytest.approx(24 * 80 / summary.seconds)
    # To look at the EMA weights leaves the raw ones as they were.
    assert any(not np.array_equal(start[name], trained[name]) for name in start if "model/" in name)
    assert_equal(ladder.arrays(), trained)


def test_remarks_are_said_between_epochs(images, monkeypatch):
    # A slow machine would be asked amid an epoch, too.
    monkeypatch.setattr("keras_ae.training.ladder.PAUSE_SECONDS", math.inf)
    lines = []
    ladder = make_ladder(images)
    ladder.train(3, remarks=lambda ladder: [f"after {ladder.epoch}"] * 2, say=lines.append)
    assert lines == [f"after {epoch}" for epoch in (1, 1, 2, 2, 3, 3)]


def test_the_losses_of_all_epochs_are_kept_through_states_and_checkpoints(
    ladder, images, tmp_path, monkeypatch
):
    monkeypatch.setattr("keras_ae.training.ladder.CHECKPOINT_SECONDS", 0.0)
    seen = []
    ladder.train(2, on_epoch=lambda ladder: seen.append(ladder.loss))
    ladder.save(tmp_path / "state.npz")
    summary = ladder.train(4, checkpoint=tmp_path / "stage.npz")
    assert len(ladder.losses) == 4
    assert ladder.losses[:2] == seen
    assert ladder.losses[-1] == ladder.loss == summary.loss
    assert ladder.arrays()["losses"].dtype == np.float32

    other = make_ladder(images)
    other.restore(tmp_path / "stage.npz")
    assert other.losses == ladder.losses
    other.restore(tmp_path / "state.npz")
    assert other.losses == seen


def test_an_interrupted_stage_goes_on_from_its_checkpoint(ladder, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_ae.training.ladder.CHECKPOINT_SECONDS", 0.0)
    checkpoint = tmp_path / "stage.npz"

    def interrupt(ladder: Ladder) -> None:
        if ladder.epoch == 3:
            raise KeyboardInterrupt

    start = ladder.arrays()
    ladder.train(4)
    whole = ladder.arrays()
    ladder.assign(start)
    with pytest.raises(KeyboardInterrupt):
        ladder.train(4, checkpoint=checkpoint, on_epoch=interrupt)
    ladder.assign(start)
    seen = []
    ladder.train(4, checkpoint=checkpoint, on_epoch=lambda ladder: seen.append(ladder.epoch))
    assert seen == [3, 4]
    assert_equal(ladder.arrays(), whole)


def test_a_damaged_checkpoint_amid_an_epoch_costs_nothing_but_what_came_after_the_one_before(
    ladder, tmp_path, often
):
    checkpoint, positions, lines = tmp_path / "stage.npz", [], []
    start = ladder.arrays()
    ladder.train(2, checkpoint=checkpoint, on_checkpoint=lambda: positions.append(ladder.position))
    assert [position.batches for position in positions] == [2, 4, 0] * 2
    whole = ladder.arrays()
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])

    ladder.assign(start)
    ladder.train(2, checkpoint=checkpoint, say=lines.append)
    assert len(lines) == 1
    assert "the one before it, in epoch 2" in lines[0]
    assert_equal(ladder.arrays(), whole)


def test_a_stage_that_is_asked_to_stop_saves_and_says_so(ladder, images, tmp_path):
    asked = iter([False, True, True])
    with pytest.raises(StoppedError, match="stopped in epoch 1, as"):
        ladder.train(2, checkpoint=tmp_path / "stage.npz", stopping=lambda: next(asked))
    assert ladder.position.batches == 4
    other = make_ladder(images)
    other.restore(tmp_path / "stage.npz")
    assert (other.epoch, other.position) == (0, ladder.position)


class Hungry(ConvAutoencoder):
    """Lacks memory where it gets more than `most` tiles."""

    most = 3

    def call(self, images, training=False):
        outputs = super().call(images, training=training)
        if images.shape[0] is not None and images.shape[0] > self.most:
            outputs += self.excess()
        return outputs

    def excess(self):
        """Fails as an allocation does, which TensorFlow would first wait ten seconds for."""
        return tf.reduce_sum(tf.py_function(self._fail, [], tf.float32))

    def _fail(self):
        raise MemoryError


class Starving(Hungry):
    """Asks for 64 TB."""

    most = 0

    def excess(self):
        return tf.reduce_sum(tf.random.uniform((2**44,)))


def tiny_ladder(images, kind=ConvAutoencoder) -> Ladder:
    """Two batches of nine tiles."""
    tiles = Tiles(images[:2], stride=8, size=32, batch_size=13, crops=9)
    return Ladder(kind(TINY, seed=1), tiles)


@pytest.fixture(scope="module")
def plenty(images) -> tuple[Ladder, dict[str, np.ndarray], list[float]]:
    """A ladder, its initial state, and the losses where the memory does."""
    ladder = tiny_ladder(images)
    assert ladder.tiles.batch_sizes == [9, 9]
    start = ladder.arrays()
    ladder.train(3)
    return ladder, start, ladder.losses


def test_a_batch_that_the_memory_does_not_do_for_goes_in_parts(images, tmp_path, plenty):
    lines = []
    ladder = tiny_ladder(images, Hungry)
    ladder.train(3, say=lines.append)
    assert lines == [
        "out of memory with 9 tiles at a time; goes on with 2 x 5, same batch",
        "out of memory with 5 tiles at a time; goes on with 3 x 3, same batch",
    ]
    np.testing.assert_allclose(ladder.losses, plenty[2], rtol=1e-5)
    ladder.save(tmp_path / "state.npz")
    other = tiny_ladder(images)
    other.restore(tmp_path / "state.npz")
    assert other.micro_batch_size == 3


def test_steps_before_one_that_failed_are_not_made_twice(plenty, often, monkeypatch):
    ladder, start, losses = plenty
    ladder.assign(start)
    run = ladder._run

    def scarce(epoch, at, micro_batch_size, pause):
        for position in run(epoch, at, micro_batch_size, pause):
            # As a step does that fails halfway.
            if epoch == 1 and micro_batch_size == 9:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
            yield position

    monkeypatch.setattr(ladder, "_run", scarce)
    lines, epochs = [], []
    ladder.train(3, say=lines.append, on_epoch=lambda ladder: epochs.append(ladder.epoch))
    assert lines == ["out of memory with 9 tiles at a time; goes on with 2 x 5, same batch"]
    assert epochs == [1, 2, 3]
    np.testing.assert_allclose(ladder.losses, losses, rtol=1e-5)


def test_where_one_tile_is_too_much_the_error_names_what_was_asked_for(images):
    ladder = tiny_ladder(images, Starving)
    ladder.micro_batch_size = 1
    words = r"one tile of 32x32 at a time is too much .*: OOM when allocating .*17592186044416"
    with pytest.raises(TrainingError, match=words):
        ladder.train(1)


def test_a_loss_that_is_not_finite_stops_with_the_epoch_and_keeps_the_checkpoint(
    ladder, images, tmp_path, monkeypatch
):
    monkeypatch.setattr("keras_ae.training.ladder.CHECKPOINT_SECONDS", 0.0)
    checkpoint, run = tmp_path / "stage.npz", ladder._run

    def break_down(epoch: int, *others):
        for position in run(epoch, *others):
            yield position if epoch < 2 else position._replace(total=float("nan"))

    monkeypatch.setattr(ladder, "_run", break_down)
    with pytest.raises(TrainingError, match="nan in epoch 3"):
        ladder.train(5, checkpoint=checkpoint)
    again = make_ladder(images)
    again.restore(checkpoint)
    assert again.epoch == 2
    assert all(np.isfinite(array).all() for array in again.model.get_weights())


def test_weights_that_are_not_finite_never_replace_a_checkpoint(ladder, tmp_path):
    ladder.train(1)
    ladder.save(tmp_path / "state.npz")
    good = (tmp_path / "state.npz").read_bytes()
    variable = ladder.model.trainable_variables[0]
    variable.assign(np.full(variable.shape, np.inf, "float32"))
    with pytest.raises(TrainingError, match="a weight is not finite after epoch 1"):
        ladder.save(tmp_path / "state.npz")
    assert (tmp_path / "state.npz").read_bytes() == good


def test_a_state_of_another_model_is_refused(ladder, images, tmp_path):
    ladder.save(tmp_path / "state.npz")
    wider = dataclasses.replace(TINY, widths=(9,))
    with pytest.raises(TrainingError, match="another model"):
        make_ladder(images, wider).restore(tmp_path / "state.npz")


def test_a_state_without_the_losses_of_its_epochs_is_refused(ladder, tmp_path):
    ladder.train(2)
    arrays = ladder.arrays()
    checkpoints.write(tmp_path / "short.npz", {**arrays, "losses": arrays["losses"][:1]})
    checkpoints.write(tmp_path / "none.npz", {n: a for n, a in arrays.items() if n != "losses"})
    for name in ("short.npz", "none.npz"):
        with pytest.raises(TrainingError, match="another model"):
            ladder.restore(tmp_path / name)


def test_a_ladder_does_not_go_down(ladder):
    ladder.train(2)
    with pytest.raises(ConfigurationError, match="already at 2"):
        ladder.train(1)


def test_a_state_that_cannot_be_written_leaves_the_old_one(ladder, tmp_path):
    (tmp_path / ".state.npz.partial").mkdir()
    (tmp_path / "state.npz").write_text("old")
    with pytest.raises(StorageError, match="cannot write the training state"):
        ladder.save(tmp_path / "state.npz")
    assert (tmp_path / "state.npz").read_text() == "old"


def test_the_average_forgets_the_start_and_never_depends_on_the_end():
    decays = [float(average_decay(np.float32(step))) for step in (0, 90, 1e6)]
    assert decays == pytest.approx([0.1, 0.91, 0.999])
