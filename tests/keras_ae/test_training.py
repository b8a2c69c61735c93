import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_ae import linear, states
from keras_ae.errors import ConfigurationError, StoppedError, StorageError, TrainingError
from keras_ae.models import ConvAutoencoder
from keras_ae.schedule import average_decay
from keras_ae.tiles import Tiles
from keras_ae.training import Ladder
from tests.tiny import TINY

CLIMB = """
import dataclasses
import itertools
import sys
from pathlib import Path
import keras
import numpy as np
from keras_ae import linear
from keras_ae.models import ConvAutoencoder
from keras_ae.errors import StoppedError
from keras_ae.tiles import Tiles
from keras_ae.training import Ladder
from tests.tiny import TINY

coarse = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), np.uint8)
images = [np.kron(image, np.ones((8, 8, 1), np.uint8)) for image in coarse]

def begin(preset):
    compiled = dataclasses.replace(TINY, jit_compile=True)
    model = ConvAutoencoder(compiled if preset == "tiny" else preset, seed=3)
    if preset == "tiny":
        linear.set_linear_path(model, linear.fit(linear.patch_moments(images, 8), 8))
    return Ladder(model, Tiles(images, stride=8, batch_size=8, seed=3))

backend, part, folder, *presets = sys.argv[1:]
assert keras.backend.backend() == backend
for preset in presets:
    place = Path(folder) / preset
    half = place / "half.npz"
    ladder = begin(preset)
    if part == "rest":
        ladder.restore(half)
    ladder.climb(4)
    ladder.save(place / f"{part}.npz")
    if part == "rest":
        continue
    ladder, asked = begin(preset), itertools.count()
    try:
        ladder.climb(4, checkpoint=half, stopping=lambda: next(asked) >= 7)
    except StoppedError:
        assert 0 < ladder.epoch < 4
        assert 0 < ladder.position.batches < 6
    else:
        raise AssertionError("it was not stopped")
"""


@pytest.mark.parametrize(
    ("backend", "presets"),
    [
        pytest.param(
            name, presets, marks=pytest.mark.skipif(not find_spec(name), reason="not installed")
        )
        for name, presets in (
            # With XLA and without; elsewhere there is one way.
            ("tensorflow", ["tiny", "baseline"]),
            ("jax", ["tiny"]),
            ("torch", ["tiny"]),
        )
    ],
)
def test_an_epoch_in_two_processes_gives_the_same_bits_as_in_one(backend, presets, tmp_path):
    blocked = "import sys; sys.modules['tensorflow'] = None\n" if backend != "tensorflow" else ""
    for part in ("whole", "rest"):
        subprocess.run(
            [sys.executable, "-c", blocked + CLIMB, backend, part, str(tmp_path), *presets],
            env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
            cwd=Path(__file__).parents[2],
            check=True,
        )
    for place in (tmp_path / preset for preset in presets):
        names = ("whole", "half", "rest")
        whole, half, rest = (dict(np.load(place / f"{name}.npz")) for name in names)
        assert set(whole) == set(rest)
        for name in set(whole) - {"seconds"}:
            np.testing.assert_array_equal(whole[name], rest[name], err_msg=name)
        assert any(not np.array_equal(half[n], rest[n]) for n in half if "model/" in n)


ON_JAX = """
import itertools
import sys
from pathlib import Path
import keras
import numpy as np
from keras_ae.backends import jax as backend
from keras_ae.errors import StoppedError
from keras_ae.models import ConvAutoencoder
from keras_ae.tiles import Tiles
from keras_ae.training import Ladder
from tests.tiny import TINY

rng = np.random.default_rng(0)
images = [rng.integers(0, 256, size, np.uint8) for size in ((40, 24, 3), (24, 31, 3), (90, 33, 3))]
tiles = Tiles(images, stride=8, crops=7, batch_size=6, seed=3)
pixels = np.concatenate([image.reshape(-1, 3) for image in tiles.images])
for epoch in (0, 1):
    on_device = backend.cut(keras.ops.convert_to_tensor(pixels), backend.cuts(tiles, epoch), 24)
    np.testing.assert_array_equal(np.asarray(on_device), np.concatenate(list(tiles.epoch(epoch))))

assert len(set(tiles.batch_sizes)) == 2
losses = {}
for fits in (False, True):
    backend._fits = lambda tiles: fits
    ladder = Ladder(ConvAutoencoder(TINY, seed=3), tiles)
    losses[ladder.placement] = [ladder.climb(epoch).loss for epoch in (1, 2)]
np.testing.assert_allclose(losses["on the device"], losses["in memory"], rtol=1e-4)

# Epochs in several calls, and from amid one.
backend.PIXELS_IN_A_CALL = 2 * 6 * 24 * 24
state = Path(sys.argv[1]) / "state.npz"
ladder = Ladder(ConvAutoencoder(TINY), tiles)
start = ladder.arrays()
ladder.climb(2)
whole = ladder.arrays()
ladder.assign(start)
asked = itertools.count()
try:
    ladder.climb(2, checkpoint=state, stopping=lambda: next(asked) > 1)
except StoppedError:
    assert (ladder.epoch, ladder.position.batches) == (1, 2)
ladder.assign(start)
ladder.climb(2, checkpoint=state)
for name, array in ladder.arrays().items():
    if name != "seconds":
        np.testing.assert_array_equal(array, whole[name], err_msg=name)

class Hungry(ConvAutoencoder):
    def call(self, images, training=False):
        outputs = super().call(images, training=training)
        if images.shape[0] is not None and images.shape[0] > 4:
            many = outputs[0, 0, 0, 0] * keras.ops.arange(2**42, dtype="float32")
            outputs += keras.ops.sort(many)[0]
        return outputs

for fits in (False, True):
    backend._fits = lambda tiles: fits
    ladder = Ladder(Hungry(TINY), tiles)
    ladder.assign(start)
    lines = []
    ladder.climb(2, say=lines.append)
    assert lines == ["out of memory with 6 tiles at a time; goes on with 2 x 3, same batch"], lines
    np.testing.assert_allclose(ladder.losses, whole["losses"], rtol=1e-5)

backend._fits = lambda tiles: False
ladder = Ladder(ConvAutoencoder(TINY), tiles)
before = ladder.arrays()
batches = list(tiles.epoch(0))

def broken(epoch, first):
    yield batches[0]
    raise OSError("gone")

tiles.epoch = broken
try:
    ladder.climb(1)
except OSError:
    after = ladder.arrays()
assert any(not np.array_equal(before[name], after[name]) for name in before if "model" in name)
assert all(np.isfinite(after[name]).all() for name in after if "model" in name)
"""


def test_jax_cuts_the_tiles_of_the_host_on_the_device_and_survives_an_interruption(tmp_path):
    subprocess.run(
        [sys.executable, "-c", ON_JAX, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        cwd=Path(__file__).parents[2],
        check=True,
    )


@pytest.fixture
def images(photographs):
    return [photograph[:160, :160] for photograph in photographs]


def make_ladder(images, preset=TINY, batch_size=12) -> Ladder:
    model = ConvAutoencoder(preset)
    if preset != "baseline":
        linear.set_linear_path(model, linear.fit(linear.patch_moments(images, 8), 8))
    return Ladder(model, Tiles(images, stride=8, batch_size=batch_size))


def error_of(ladder: Ladder, images) -> float:
    with ladder.averaged() as model:
        batch = np.stack(images).astype("float32") / 255
        return float(np.mean((np.asarray(model(batch)) - batch) ** 2))


def test_training_lowers_the_error_of_the_averaged_model(images):
    ladder = make_ladder(images, "small")
    before = error_of(ladder, images)
    summary = ladder.climb(80)
    assert error_of(ladder, images) < before
    assert (summary.start, summary.stop) == (0, 80)
    assert summary.seconds > 0
    assert summary.tiles_per_second == pytest.approx(24 * 80 / summary.seconds)


def test_remarks_are_said_between_epochs(images):
    lines = []
    ladder = make_ladder(images)
    ladder.climb(3, remarks=lambda ladder: [f"after {ladder.epoch}"] * 2, say=lines.append)
    assert lines == [f"after {epoch}" for epoch in (1, 1, 2, 2, 3, 3)]


def test_the_losses_of_all_epochs_are_kept_through_states_and_checkpoints(
    images, tmp_path, monkeypatch
):
    monkeypatch.setattr("keras_ae.training.CHECKPOINT_SECONDS", 0.0)
    seen = []
    ladder = make_ladder(images)
    ladder.climb(2, on_epoch=lambda ladder: seen.append(ladder.loss))
    ladder.save(tmp_path / "state.npz")
    summary = ladder.climb(4, checkpoint=tmp_path / "stage.npz")
    assert len(ladder.losses) == 4
    assert ladder.losses[:2] == seen
    assert ladder.losses[-1] == ladder.loss == summary.loss
    assert ladder.arrays()["losses"].dtype == np.float32

    other = make_ladder(images)
    other.restore(tmp_path / "stage.npz")
    assert other.losses == ladder.losses
    other.restore(tmp_path / "state.npz")
    assert other.losses == seen


def test_looking_at_the_average_leaves_the_trunk_as_it_was(images):
    ladder = make_ladder(images)
    ladder.climb(2)
    before = ladder.arrays()
    error_of(ladder, images)
    for name, array in ladder.arrays().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_an_interrupted_stage_goes_on_from_its_checkpoint(images, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_ae.training.CHECKPOINT_SECONDS", 0.0)
    checkpoint = tmp_path / "stage.npz"

    def interrupt(ladder: Ladder) -> None:
        if ladder.epoch == 3:
            raise KeyboardInterrupt

    first = make_ladder(images)
    start = first.arrays()
    with pytest.raises(KeyboardInterrupt):
        first.climb(4, checkpoint=checkpoint, on_epoch=interrupt)
    second = make_ladder(images)
    for name, variable in second._variables().items():
        variable.assign(start[name])
    seen = []
    second.climb(4, checkpoint=checkpoint, on_epoch=lambda ladder: seen.append(ladder.epoch))
    assert seen == [3, 4]

    whole = make_ladder(images)
    for name, variable in whole._variables().items():
        variable.assign(start[name])
    whole.climb(4)
    for name, array in whole.arrays().items():
        if name != "seconds":
            np.testing.assert_array_equal(array, second.arrays()[name], err_msg=name)


@pytest.fixture
def often(monkeypatch):
    """Lets an epoch be left after each call, and saves each time."""
    monkeypatch.setattr("keras_ae.training.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("keras_ae.training.PAUSE_SECONDS", 0.0)


def test_a_damaged_checkpoint_amid_an_epoch_costs_nothing_but_what_came_after_the_one_before(
    images, tmp_path, often
):
    checkpoint, positions, lines = tmp_path / "stage.npz", [], []
    ladder = make_ladder(images, "baseline", batch_size=4)
    start = ladder.arrays()
    ladder.climb(2, checkpoint=checkpoint, on_checkpoint=lambda: positions.append(ladder.position))
    assert [position.batches for position in positions] == [2, 4, 0] * 2
    whole = ladder.arrays()
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])

    ladder.assign(start)
    ladder.climb(2, checkpoint=checkpoint, say=lines.append)
    assert len(lines) == 1
    assert "the one before it, in epoch 2" in lines[0]
    for name, array in ladder.arrays().items():
        if name != "seconds":
            np.testing.assert_array_equal(array, whole[name], err_msg=name)


def test_a_stage_that_is_asked_to_stop_saves_and_says_so(images, tmp_path):
    ladder = make_ladder(images, "baseline", batch_size=4)
    asked = iter([False, True, True])
    with pytest.raises(StoppedError, match="stopped in epoch 1, as"):
        ladder.climb(2, checkpoint=tmp_path / "stage.npz", stopping=lambda: next(asked))
    assert ladder.position.batches == 4
    other = make_ladder(images, "baseline", batch_size=4)
    other.restore(tmp_path / "stage.npz")
    assert (other.epoch, other.position) == (0, ladder.position)


class Hungry(ConvAutoencoder):
    """Asks for 64 TB where it gets more than `most` tiles."""

    most = 3

    def call(self, images, training=False):
        outputs = super().call(images, training=training)
        if images.shape[0] is not None and images.shape[0] > self.most:
            outputs += tf.reduce_sum(tf.random.uniform((2**44,)))
        return outputs


def tiny_ladder(images, kind=ConvAutoencoder) -> Ladder:
    """Batches of nine tiles."""
    return Ladder(kind(TINY, seed=1), Tiles(images, stride=8, batch_size=13, crops=9))


@pytest.fixture(scope="module")
def losses(photographs) -> list[float]:
    """What a tiny ladder has where the memory does."""
    ladder = tiny_ladder([photograph[:160, :160] for photograph in photographs])
    assert ladder.tiles.batch_sizes == [9, 9, 9]
    ladder.climb(3)
    return ladder.losses


def test_a_batch_that_the_memory_does_not_do_for_goes_in_parts(images, tmp_path, losses):
    lines = []
    ladder = tiny_ladder(images, Hungry)
    ladder.climb(3, say=lines.append)
    assert lines == [
        "out of memory with 9 tiles at a time; goes on with 2 x 5, same batch",
        "out of memory with 5 tiles at a time; goes on with 3 x 3, same batch",
    ]
    np.testing.assert_allclose(ladder.losses, losses, rtol=1e-5)
    ladder.save(tmp_path / "state.npz")
    other = tiny_ladder(images)
    other.restore(tmp_path / "state.npz")
    assert other.at_once == 3


def test_steps_before_one_that_failed_are_not_made_twice(images, often, losses):
    ladder = tiny_ladder(images)
    run = ladder._run

    def scarce(epoch, at, at_once, pause):
        for position in run(epoch, at, at_once, pause):
            # As a step does that fails halfway.
            if epoch == 1 and at_once == 9:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
            yield position

    ladder._run = scarce
    lines, epochs = [], []
    ladder.climb(3, say=lines.append, on_epoch=lambda ladder: epochs.append(ladder.epoch))
    assert lines == ["out of memory with 9 tiles at a time; goes on with 2 x 5, same batch"]
    assert epochs == [1, 2, 3]
    np.testing.assert_allclose(ladder.losses, losses, rtol=1e-5)


def test_where_one_tile_is_too_much_the_error_names_what_was_asked_for(images, monkeypatch):
    monkeypatch.setattr(Hungry, "most", 0)
    ladder = tiny_ladder(images, Hungry)
    ladder.at_once = 1
    words = r"one tile of 64x64 at a time is too much .*: OOM when allocating .*17592186044416"
    with pytest.raises(TrainingError, match=words):
        ladder.climb(1)


def test_a_loss_that_is_not_finite_stops_with_the_epoch_and_keeps_the_checkpoint(
    images, tmp_path, monkeypatch
):
    monkeypatch.setattr("keras_ae.training.CHECKPOINT_SECONDS", 0.0)
    checkpoint = tmp_path / "stage.npz"

    ladder = make_ladder(images)
    run = ladder._run

    def break_down(epoch: int, *others):
        for position in run(epoch, *others):
            yield position if epoch < 2 else position._replace(total=float("nan"))

    ladder._run = break_down
    with pytest.raises(TrainingError, match="nan in epoch 3"):
        ladder.climb(5, checkpoint=checkpoint)
    again = make_ladder(images)
    again.restore(checkpoint)
    assert again.epoch == 2
    assert all(np.isfinite(array).all() for array in again.model.get_weights())


def test_weights_that_are_not_finite_never_replace_a_checkpoint(images, tmp_path):
    ladder = make_ladder(images)
    ladder.climb(1)
    ladder.save(tmp_path / "state.npz")
    good = (tmp_path / "state.npz").read_bytes()
    variable = ladder.model.trainable_variables[0]
    variable.assign(np.full(variable.shape, np.inf, "float32"))
    with pytest.raises(TrainingError, match="a weight is not finite after epoch 1"):
        ladder.save(tmp_path / "state.npz")
    assert (tmp_path / "state.npz").read_bytes() == good


def test_a_state_of_another_model_is_refused(images, tmp_path):
    make_ladder(images).save(tmp_path / "state.npz")
    with pytest.raises(TrainingError, match="another model"):
        make_ladder(images, "baseline").restore(tmp_path / "state.npz")


def test_a_state_without_the_losses_of_its_epochs_is_refused(images, tmp_path):
    ladder = make_ladder(images)
    ladder.climb(2)
    arrays = ladder.arrays()
    states.write(tmp_path / "short.npz", {**arrays, "losses": arrays["losses"][:1]})
    states.write(tmp_path / "none.npz", {n: a for n, a in arrays.items() if n != "losses"})
    for name in ("short.npz", "none.npz"):
        with pytest.raises(TrainingError, match="another model"):
            ladder.restore(tmp_path / name)


def test_a_ladder_does_not_go_down(images):
    ladder = make_ladder(images)
    ladder.climb(2)
    with pytest.raises(ConfigurationError, match="already at 2"):
        ladder.climb(1)


def test_a_state_that_cannot_be_written_leaves_the_old_one(images, tmp_path):
    ladder = make_ladder(images)
    (tmp_path / ".state.npz.partial").mkdir()
    (tmp_path / "state.npz").write_text("old")
    with pytest.raises(StorageError, match="cannot write the training state"):
        ladder.save(tmp_path / "state.npz")
    assert (tmp_path / "state.npz").read_text() == "old"


def test_the_average_forgets_the_start_and_never_depends_on_the_end():
    decays = [float(average_decay(np.float32(step))) for step in (0, 90, 1e6)]
    assert decays == pytest.approx([0.1, 0.91, 0.999])
