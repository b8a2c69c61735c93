"""Hyperparameter search for a better preset with keras-tuner, in short trials."""

import dataclasses
import gc
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ae import presets
from keras_ae.datasets.tiles import TileSource
from keras_ae.errors import ConfigurationError, TrainingError
from keras_ae.imports import from_extra
from keras_ae.models import linear
from keras_ae.presets import Preset
from keras_ae.storage import sha256_of_parts
from keras_ae.training.ladder import create_ladder
from keras_ae.training.validation import mean_psnr
from keras_ae.tuning import search_space
from keras_ae.tuning.search_space import SearchSpace

with from_extra("tuning", __name__):
    import keras_tuner
    from keras_tuner.engine import base_tuner
    from keras_tuner.errors import FailedTrialError, FatalError

EPOCHS = 10
OBJECTIVE = "val_psnr"


def create_tuner(
    tiles: Callable[[int], TileSource],
    val_images: Iterable[np.ndarray],
    *,
    floor: linear.PatchPCA,
    directory: str | Path,
    preset: str | Preset = presets.DEFAULT,
    trials: int = 20,
    epochs: int = EPOCHS,
    parameters: int = 0,
    batch_size: int = 32,
    stride: int = presets.STRIDE,
    latent_channels: int = presets.LATENT_CHANNELS,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> "PresetTuner":
    """Prepares a search: call `search()` on the returned tuner, and then `best_preset`.

    Args:
        tiles: function of the batch size that returns the training tiles.
        val_images: held-out images on which each trial is evaluated, uint8 [H, W, C]; iterated
            once for each trial.
        floor: principal components of the training images' patches.
        directory: folder for the state of the search. An interrupted search with the same arguments
            resumes from there. Use another folder for other images.
        preset: the preset near which to search; it is the first trial.
        trials, epochs: number of trials, and epochs of each, at least 1.
        parameters: maximum number of trainable parameters; 0 for those of the preset.
        batch_size: maximum batch size without tuning.
        stride, latent_channels: arguments of the model.
        seed: seed of weights and of the search.
        say: prints one line for each trial.

    Raises:
        ConfigurationError: for a preset that cannot be tuned, or a budget that is too small.

    >>> from keras_ae import Tiles
    >>> images = [np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)]
    >>> search = create_tuner(
    ...     lambda batch_size: Tiles(images, stride=8, batch_size=batch_size),
    ...     images,  # held-out ones
    ...     floor=linear.fit(linear.patch_moments(images, stride=8), latent_channels=8),
    ...     directory="search",
    ...     preset="small",
    ... )

    `search.search()` takes minutes; then `best_preset(search)` gives the preset and the batch size.
    """
    if trials < 1 or epochs < 1:
        raise ConfigurationError(f"trials and epochs must be at least 1; got {trials} and {epochs}")
    channels = len(floor.mean) // stride**2
    space = SearchSpace(
        presets.get(preset), batch_size, parameters, channels, stride, latent_channels
    )

    def evaluate(preset: Preset, batch_size: int) -> float:
        ladder = create_ladder(
            preset,
            tiles(batch_size),
            floor,
            channels=channels,
            stride=stride,
            latent_channels=latent_channels,
            seed=seed,
        )
        ladder.train(epochs, say=lambda line: say(f"    {line}"))
        with ladder.ema_model() as model:
            psnr = mean_psnr(model, val_images)
        # Compiled functions are in reference cycles: a hundred megabytes for each model.
        del ladder, model
        gc.collect()
        return psnr

    settings = [dataclasses.asdict(space), epochs, seed, trials, keras.backend.backend()]
    arrays = (f"{array.shape}".encode() + array.tobytes() for array in floor)
    key = sha256_of_parts([json.dumps(settings).encode(), *arrays])[:32]
    return PresetTuner(space, evaluate, key, trials=trials, seed=seed, directory=directory, say=say)


def best_preset(tuner: "PresetTuner") -> tuple[Preset, int]:
    """Returns the preset and the batch size of the best trial."""
    return search_space.apply_values(tuner.space.preset, tuner.get_best_hyperparameters()[0].values)


class PresetTuner(base_tuner.BaseTuner):
    """Bayesian optimisation of a preset; the same arguments give the same trials.

    Args:
        evaluate: function of a preset and a batch size that returns the mean val PSNR in dB. If it
            raises TrainingError, the trial has failed.
        key: identifies everything that its results depend on.
        space, trials, seed, directory, say: the search space, and as for `create_tuner`.
    """

    def __init__(
        self,
        space: SearchSpace,
        evaluate: Callable[[Preset, int], float],
        key: str,
        *,
        trials: int,
        seed: int,
        directory: str | Path,
        say: Callable[[str], None],
    ):
        self.space, self._evaluate, self._say = space, evaluate, say
        hyperparameters = keras_tuner.HyperParameters()
        space.define(hyperparameters)
        oracle = Oracle(
            objective=keras_tuner.Objective(OBJECTIVE, "max"),
            max_trials=trials,
            # Keras-tuner replaces 0 by a random seed.
            seed=seed + 1,
            hyperparameters=hyperparameters,
            # The search continues whatever the number of failed trials.
            max_consecutive_failed_trials=trials + 1,
        )
        oracle.verbose = 0
        # Keras-tuner resumes any search in its folder, so the folder's name must identify ours.
        super().__init__(oracle, directory=str(directory), project_name=key)

    def search(self, **_: Any) -> None:
        """Runs the trials that are not done yet; raises TrainingError if all trials failed."""
        try:
            super().search()
        except FatalError as error:
            raise error.__cause__ or error from None
        if all(trial.score is None for trial in self.oracle.trials.values()):
            raise TrainingError(
                f"all {len(self.oracle.trials)} trials failed: their losses were not finite; "
                "look for broken images in the data"
            )

    def run_trial(self, trial: Any, **_: Any) -> dict[str, float]:
        """Trains and evaluates one point of the search space."""
        try:
            values = trial.hyperparameters.values
            number = f"{int(trial.trial_id) + 1} of {self.oracle.max_trials}"
            text = search_space.format_point(search_space.point_of(self.space, values))
            line = f"    trial {number}: {text}"
            psnr = self._evaluate(*search_space.apply_values(self.space.preset, values))
        except TrainingError as error:
            self._say(f"{line}: failed")
            raise FailedTrialError(str(error)) from error
        except Exception as error:
            raise FatalError(str(error)) from error
        self._say(f"{line}: {psnr:.2f} dB")
        return {OBJECTIVE: psnr}


class Oracle(keras_tuner.oracles.BayesianOptimizationOracle):
    """Keras-tuner's Bayesian optimisation, with the preset itself as the first trial."""

    trials: dict[str, Any]

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Returns the values of the next trial."""
        if not self.trials:
            return {"status": "RUNNING", "values": dict(self.get_space().values)}
        values: dict[str, Any] = super().populate_space(trial_id)
        return values

    def reload(self) -> None:
        """Reads the state of an earlier search."""
        super().reload()
        # Keras-tuner reads them in the arbitrary order of the folder.
        self.trials = dict(sorted(self.trials.items(), key=lambda item: int(item[0])))
