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
from keras_ae.training.ladder import begin
from keras_ae.training.validation import mean_psnr
from keras_ae.tuning import search_space
from keras_ae.tuning import tuner as search
from keras_ae.tuning.search_space import SearchSpace

TINY = Preset("tiny", "linear-residual", (16,), (1, 1), clipnorm=1.0)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    coarse = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), np.uint8)
    return [np.kron(image, np.ones((6, 6, 1), np.uint8)) for image in coarse]


class Judge:
    """Knows the answers: wider is better, and what `fails` says does not train."""

    key = "key"

    def __init__(self, fails=lambda preset: False, stop=math.inf):
        self.asked: list[Preset] = []
        self.fails, self.stop = fails, stop

    def __call__(self, preset: Preset, batch_size: int) -> float:
        if len(self.asked) == self.stop:
            raise KeyboardInterrupt
        self.asked.append(preset)
        if self.fails(preset):
            raise TrainingError("the loss became nan")
        return preset.widths[0] / 10 + batch_size / 1000 - abs(math.log(preset.learning_rate))


def prepare(train, val, directory, **settings) -> search.PresetTuner:
    floor = linear.fit(linear.patch_moments(train, 8), 8)
    return search.tuner(
        lambda batch_size: Tiles(train, stride=8, batch_size=batch_size),
        val,
        floor=floor,
        directory=directory,
        **{"preset": TINY, **settings},
    )


def make_tuner(directory, judge, *, trials, seed=0, say=print) -> search.PresetTuner:
    space = SearchSpace(TINY, parameters=60_000)
    return search.PresetTuner(space, judge, trials=trials, seed=seed, directory=directory, say=say)


def values_of(tuner) -> list[dict]:
    return [tuner.oracle.trials[key].hyperparameters.values for key in sorted(tuner.oracle.trials)]


def test_a_search_gives_the_better_of_its_trials(tmp_path, images, capsys):
    tuner = prepare(images[:2], images[2:], tmp_path, trials=2, epochs=2, batch_size=4)
    tuner.search()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["trial 1 of 2", "trial 2 of 2"]
    assert "width 16, 1 + 1 blocks, learning rate 0.001, batch size 4:" in lines[0]
    trials = tuner.oracle.trials.values()
    taken = max(trials, key=lambda trial: trial.score)
    preset, batch_size = search.best(tuner)
    assert (preset, batch_size) == search_space.tuned(TINY, taken.hyperparameters.values)

    floor = linear.fit(linear.patch_moments(images[:2], 8), 8)
    tiles = Tiles(images[:2], stride=8, batch_size=batch_size)
    ladder = begin(preset, tiles, floor)
    ladder.train(2)
    with ladder.averaged() as model:
        assert mean_psnr(model, images[2:]) == pytest.approx(taken.score, abs=1e-4)


def test_a_trial_that_diverges_is_survived(tmp_path, capsys):
    judge = Judge(fails=lambda preset: preset.widths == (16,) or preset.learning_rate > 1e-3)
    tuner = make_tuner(tmp_path, judge, trials=8)
    tuner.search()
    failed = [trial for trial in tuner.oracle.trials.values() if trial.status == "FAILED"]
    assert len(tuner.oracle.trials) == 8
    assert 3 < len(failed) < 8
    assert capsys.readouterr().out.count("did not train") == len(failed)
    assert not judge.fails(search.best(tuner)[0])


def test_a_loss_that_is_not_finite_is_a_failed_trial(tmp_path, images):
    wild = Preset("wild", "linear-residual", (8,), (1, 1), learning_rate=1e30)
    tuner = prepare(images[:2], images[2:], tmp_path, preset=wild, trials=1, epochs=3)
    with pytest.raises(TrainingError, match="none of the 1 trials trained"):
        tuner.search()


def test_any_other_error_ends_the_search_as_it_is(tmp_path):
    class Broken(Judge):
        def __call__(self, preset, batch_size):
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        make_tuner(tmp_path, Broken(), trials=3).search()


def test_the_same_arguments_give_the_same_trials_within_the_budget(tmp_path):
    found = []
    for place, seed in (("a", 1), ("b", 1), ("c", 2)):
        tuner = make_tuner(tmp_path / place, Judge(), trials=5, seed=seed, say=lambda line: None)
        tuner.search()
        found.append(values_of(tuner))
    assert found[0] == found[1]
    assert found[0][0] == found[2][0]
    assert found[0][1:] != found[2][1:]
    space = SearchSpace(TINY, parameters=60_000)
    for values in found[0]:
        assert space.parameters_of(search_space.tuned(TINY, values)[0]) <= 60_000


def test_an_interrupted_search_makes_the_trials_that_are_missing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make_tuner(tmp_path, first := Judge(stop=3), trials=5).search()
    rest = Judge()
    tuner = make_tuner(tmp_path, rest, trials=5)
    tuner.search()
    assert len(rest.asked) == 2
    tried = [search_space.tuned(TINY, values)[0] for values in values_of(tuner)]
    assert tried == first.asked + rest.asked


def test_other_settings_are_another_search(tmp_path, images):
    def key(**settings):
        return prepare(images[:2], images[2:], tmp_path, **settings).project_name

    keys = [key(), key(epochs=3), key(seed=1), key(trials=3), key(batch_size=8)]
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


@pytest.mark.parametrize("wrong", [{"trials": 0}, {"epochs": 0}, {"preset": "baseline"}])
def test_wrong_arguments_are_told(tmp_path, images, wrong):
    with pytest.raises(ConfigurationError):
        prepare(images, images, tmp_path, **wrong)


def test_no_held_out_images_are_refused(tmp_path, images):
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
tuner = search.tuner(
    lambda batch_size: Tiles(images[:1], stride=8, batch_size=batch_size), images[1:],
    floor=linear.fit(linear.patch_moments(images[:1], 8), 8), directory=sys.argv[1],
    preset="small", trials=1, epochs=1, parameters=20_000)
tuner.search()
print(search.best(tuner)[0].name)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            # Compiling takes a third of the time.
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        },
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ["small tuned"], done.stderr
