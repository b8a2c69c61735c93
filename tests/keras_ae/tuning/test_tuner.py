import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_ae.datasets.tiles import Tiles
from keras_ae.errors import ConfigurationError, DataError, TrainingError
from keras_ae.models import linear
from keras_ae.presets import Preset
from keras_ae.training.ladder import create_ladder
from keras_ae.training.validation import mean_psnr
from keras_ae.tuning import search_space
from keras_ae.tuning import tuner as search
from keras_ae.tuning.search_space import SearchSpace

TINY = Preset("tiny", "linear-residual", (16,), (1, 1), clipnorm=1.0)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    coarse = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), np.uint8)
    return [np.kron(image, np.ones((6, 6, 1), np.uint8)) for image in coarse]


class FakeEvaluator:
    """A formula instead of training: wider is better. Presets for which `fails` is true fail."""

    def __init__(self, fails=lambda preset: False, interrupt_after=math.inf):
        self.presets: list[Preset] = []
        self.fails, self.interrupt_after = fails, interrupt_after

    def __call__(self, preset: Preset, batch_size: int) -> float:
        if len(self.presets) == self.interrupt_after:
            raise KeyboardInterrupt
        self.presets.append(preset)
        if self.fails(preset):
            raise TrainingError("the loss became nan")
        return preset.widths[0] / 10 + batch_size / 1000 - abs(math.log(preset.learning_rate))


def prepare(train, val, directory, **settings) -> search.PresetTuner:
    floor = linear.fit(linear.patch_moments(train, 8), 8)
    return search.create_tuner(
        lambda batch_size: Tiles(train, stride=8, batch_size=batch_size),
        val,
        floor=floor,
        directory=directory,
        **{"preset": TINY, **settings},
    )


def make_tuner(directory, evaluator, *, trials, seed=0, say=print) -> search.PresetTuner:
    space = SearchSpace(TINY, parameters=60_000)
    return search.PresetTuner(
        space, evaluator, "key", trials=trials, seed=seed, directory=directory, say=say
    )


def values_of(tuner) -> list[dict]:
    return [tuner.oracle.trials[key].hyperparameters.values for key in sorted(tuner.oracle.trials)]


def test_a_search_finds_the_best_of_its_trials(tmp_path, images, capsys):
    tuner = prepare(images[:2], images[2:], tmp_path, trials=2, epochs=2, batch_size=4)
    tuner.search()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["trial 1 of 2", "trial 2 of 2"]
    assert "width 16, 1 + 1 blocks, learning rate 0.001, batch size 4:" in lines[0]
    trials = tuner.oracle.trials.values()
    best = max(trials, key=lambda trial: trial.score)
    preset, batch_size = search.best_preset(tuner)
    assert (preset, batch_size) == search_space.apply_values(TINY, best.hyperparameters.values)

    floor = linear.fit(linear.patch_moments(images[:2], 8), 8)
    tiles = Tiles(images[:2], stride=8, batch_size=batch_size)
    ladder = create_ladder(preset, tiles, floor)
    ladder.train(2)
    with ladder.ema_model() as model:
        assert mean_psnr(model, images[2:]) == pytest.approx(best.score, abs=1e-4)


def test_a_search_continues_after_failed_trials(tmp_path, capsys):
    evaluator = FakeEvaluator(
        fails=lambda preset: preset.widths == (16,) or preset.learning_rate > 1e-3
    )
    tuner = make_tuner(tmp_path, evaluator, trials=8)
    tuner.search()
    failed = [trial for trial in tuner.oracle.trials.values() if trial.status == "FAILED"]
    assert len(tuner.oracle.trials) == 8
    assert 3 < len(failed) < 8
    assert capsys.readouterr().out.count(": failed") == len(failed)
    assert not evaluator.fails(search.best_preset(tuner)[0])


def test_a_loss_that_is_not_finite_is_a_failed_trial(tmp_path, images):
    wild = Preset("wild", "linear-residual", (8,), (1, 1), learning_rate=1e30)
    tuner = prepare(images[:2], images[2:], tmp_path, preset=wild, trials=1, epochs=3)
    with pytest.raises(TrainingError, match="all 1 trials failed"):
        tuner.search()


def test_any_other_error_ends_the_search_and_is_raised(tmp_path):
    class BrokenEvaluator(FakeEvaluator):
        def __call__(self, preset, batch_size):
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        make_tuner(tmp_path, BrokenEvaluator(), trials=3).search()


def test_the_same_arguments_give_the_same_trials_within_the_budget(tmp_path):
    searches = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        tuner = make_tuner(
            tmp_path / name, FakeEvaluator(), trials=5, seed=seed, say=lambda line: None
        )
        tuner.search()
        searches.append(values_of(tuner))
    assert searches[0] == searches[1]
    assert searches[0][0] == searches[2][0]
    assert searches[0][1:] != searches[2][1:]
    space = SearchSpace(TINY, parameters=60_000)
    for values in searches[0]:
        assert space.parameters_of(search_space.apply_values(TINY, values)[0]) <= 60_000


def test_an_interrupted_search_resumes_with_the_missing_trials(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make_tuner(tmp_path, first := FakeEvaluator(interrupt_after=3), trials=5).search()
    rest = FakeEvaluator()
    tuner = make_tuner(tmp_path, rest, trials=5)
    tuner.search()
    assert len(rest.presets) == 2
    tried = [search_space.apply_values(TINY, values)[0] for values in values_of(tuner)]
    assert tried == first.presets + rest.presets


def test_searches_with_other_settings_have_other_folders(tmp_path, images):
    def key(**settings):
        return prepare(images[:2], images[2:], tmp_path, **settings).project_name

    keys = [key(), key(epochs=3), key(seed=1), key(trials=3), key(batch_size=8)]
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


@pytest.mark.parametrize("wrong", [{"trials": 0}, {"epochs": 0}, {"preset": "baseline"}])
def test_wrong_arguments_are_refused(tmp_path, images, wrong):
    with pytest.raises(ConfigurationError):
        prepare(images, images, tmp_path, **wrong)


def test_a_search_without_held_out_images_is_refused(tmp_path, images):
    with pytest.raises(DataError, match="at least one image; got none"):
        prepare(images, [], tmp_path, trials=1, epochs=1).search()


def test_a_search_runs_without_tensorflow_and_tfx(tmp_path):
    program = """
import sys
for name in ("tensorflow", "tfx", "apache_beam"):
    sys.modules[name] = None
import numpy as np
from keras_ae.models import linear
from keras_ae.tuning import tuner as search
from keras_ae.datasets.tiles import Tiles
images = list(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8))
tuner = search.create_tuner(
    lambda batch_size: Tiles(images[:1], stride=8, batch_size=batch_size), images[1:],
    floor=linear.fit(linear.patch_moments(images[:1], 8), 8), directory=sys.argv[1],
    preset="small", trials=1, epochs=1, parameters=20_000)
tuner.search()
print(search.best_preset(tuner)[0].name)
"""
    process = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            # JAX then compiles in a third of the time.
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        },
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert process.stdout.splitlines()[-1:] == ["small tuned"], process.stderr
