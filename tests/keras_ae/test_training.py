import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from keras_ae import linear
from keras_ae.errors import ConfigurationError, StorageError, TrainingError
from keras_ae.models import ConvAutoencoder
from keras_ae.tiles import Tiles
from keras_ae.training import Ladder, average_decay

BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(not find_spec(name), reason=f"{name} is missing"))
    for name in ("tensorflow", "jax", "torch")
]

CLIMB = """
import sys
from pathlib import Path
import keras
import numpy as np
from keras_ae import linear, presets
from keras_ae.models import ConvAutoencoder
from keras_ae.tiles import Tiles
from keras_ae.training import Ladder

backend, preset, stop, before, after = sys.argv[1:]
assert keras.backend.backend() == backend
keras.utils.set_random_seed(3)
coarse = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3), np.uint8)
images = [np.kron(image, np.ones((8, 8, 1), np.uint8)) for image in coarse]
model = ConvAutoencoder(preset)
if preset == "medium":
    linear.set_linear_path(model, linear.fit(linear.patch_moments(images, 8), 8))
ladder = Ladder(model, Tiles(images, stride=8, seed=3))
if before:
    ladder.restore(Path(before))
ladder.climb(int(stop))
ladder.save(Path(after))
"""


def climb(backend: str, preset: str, stop: int, before: Path | None, after: Path) -> None:
    blocked = "import sys; sys.modules['tensorflow'] = None\n" if backend != "tensorflow" else ""
    program = blocked + CLIMB
    subprocess.run(
        [sys.executable, "-c", program, backend, preset, str(stop), str(before or ""), str(after)],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=Path(__file__).parents[2],
        check=True,
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("preset", ["baseline", "medium"])
def test_a_ladder_in_two_processes_gives_the_same_bits_as_in_one(backend, preset, tmp_path):
    climb(backend, preset, 4, None, tmp_path / "whole.npz")
    climb(backend, preset, 2, None, tmp_path / "half.npz")
    climb(backend, preset, 4, tmp_path / "half.npz", tmp_path / "rest.npz")
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "rest.npz") as rest:
        assert set(whole.files) == set(rest.files)
        for name in set(whole.files) - {"seconds"}:
            np.testing.assert_array_equal(whole[name], rest[name], err_msg=name)
    with np.load(tmp_path / "half.npz") as half, np.load(tmp_path / "rest.npz") as rest:
        assert any(not np.array_equal(half[n], rest[n]) for n in half.files if "model/" in n)


ON_JAX = """
import keras
import numpy as np
from keras_ae.backends import jax as backend
from keras_ae.models import ConvAutoencoder
from keras_ae.tiles import Tiles
from keras_ae.training import Ladder

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
    keras.utils.set_random_seed(3)
    ladder = Ladder(ConvAutoencoder("small"), tiles)
    losses[ladder.placement] = [ladder.climb(epoch).loss for epoch in (1, 2)]
np.testing.assert_allclose(losses["on the device"], losses["in memory"], rtol=1e-4)

backend._fits = lambda tiles: False
ladder = Ladder(ConvAutoencoder("small"), tiles)
before = ladder.arrays()
batches = list(tiles.epoch(0))

def broken(epoch):
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


def test_jax_cuts_the_tiles_of_the_host_on_the_device_and_survives_an_interruption():
    subprocess.run(
        [sys.executable, "-c", ON_JAX],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        cwd=Path(__file__).parents[2],
        check=True,
    )


@pytest.fixture
def images(photographs):
    return [photograph[:160, :160] for photograph in photographs]


def make_ladder(images, preset="medium") -> Ladder:
    model = ConvAutoencoder(preset)
    if preset == "medium":
        linear.set_linear_path(model, linear.fit(linear.patch_moments(images, 8), 8))
    return Ladder(model, Tiles(images, stride=8, batch_size=12))


def error_of(ladder: Ladder, images) -> float:
    with ladder.averaged() as model:
        batch = np.stack(images).astype("float32") / 255
        return float(np.mean((np.asarray(model(batch)) - batch) ** 2))


def test_training_lowers_the_error_of_the_averaged_model(images):
    ladder = make_ladder(images)
    before = error_of(ladder, images)
    summary = ladder.climb(80)
    assert error_of(ladder, images) < before
    assert (summary.start, summary.stop) == (0, 80)
    assert summary.seconds > 0
    assert summary.tiles_per_second == pytest.approx(24 * 80 / summary.seconds)


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


def test_a_loss_that_is_not_finite_stops_with_the_epoch_and_keeps_the_checkpoint(
    images, tmp_path, monkeypatch
):
    monkeypatch.setattr("keras_ae.training.CHECKPOINT_SECONDS", 0.0)
    checkpoint = tmp_path / "stage.npz"

    ladder = make_ladder(images)
    run_epoch = ladder._run_epoch

    def break_down(epoch: int) -> float:
        loss = run_epoch(epoch)
        return loss if epoch < 2 else float("nan")

    ladder._run_epoch = break_down
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
    np.savez(tmp_path / "short.npz", **{**arrays, "losses": arrays["losses"][:1]})
    np.savez(tmp_path / "none.npz", **{n: a for n, a in arrays.items() if n != "losses"})
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
    (tmp_path / "state.npz.partial").mkdir()
    (tmp_path / "state.npz").write_text("old")
    with pytest.raises(StorageError, match="cannot write the training state"):
        ladder.save(tmp_path / "state.npz")
    assert (tmp_path / "state.npz").read_text() == "old"


def test_the_average_forgets_the_start_and_never_depends_on_the_end():
    decays = [float(average_decay(np.float32(step))) for step in (0, 90, 1e6)]
    assert decays == pytest.approx([0.1, 0.91, 0.999])
