"""The search for a better preset with keras-tuner: short trials, judged on held-out images."""

import dataclasses
import gc
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine import base_tuner
from keras_tuner.errors import FailedTrialError, FatalError

from keras_ae import presets
from keras_ae.datasets.tiles import TileSource
from keras_ae.errors import ConfigurationError, TrainingError
from keras_ae.models import linear
from keras_ae.presets import Preset
from keras_ae.storage import sha256_of_parts
from keras_ae.training.ladder import begin
from keras_ae.training.validation import mean_psnr
from keras_ae.tuning import search_space
from keras_ae.tuning.search_space import SearchSpace

EPOCHS = 10
OBJECTIVE = "val_psnr"


def tuner(
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
    """Prepares a search; call `search()` on what is returned, and `best` after that.

    Args:
        tiles: gives the training tiles for a batch size.
        val_images: held-out images on which a trial is judged, uint8 [H, W, C]; gone through
            anew for each trial.
        floor: principal components of the training images' patches.
        directory: where the state of a search is kept; an interrupted one of the same arguments
            goes on from there. Other images want another folder.
        preset: the preset around which to search; it is the first trial.
        trials: how many, at least 1.
        epochs: of each trial, at least 1.
        parameters: most trainable numbers of a model; by default those of the preset.
        batch_size: largest number of tiles in a step, when not tuned.
        stride, latent_channels: of the model.
        seed: of weights, tiles and search.
        say: takes a line for each trial.

    Raises:
        ConfigurationError: for a preset that cannot be tuned, or a budget that is too small.

    >>> from keras_ae import Tiles
    >>> images = [np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)]
    >>> search = tuner(
    ...     lambda batch_size: Tiles(images, stride=8, batch_size=batch_size),
    ...     images,  # held-out ones
    ...     floor=linear.fit(linear.patch_moments(images, stride=8), latent_channels=8),
    ...     directory="search",
    ...     preset="small",
    ... )

    `search.search()` takes minutes; then `best(search)` gives the preset and the batch size.
    """
    if trials < 1 or epochs < 1:
        raise ConfigurationError(f"trials and epochs must be from 1; got {trials} and {epochs}")
    channels = len(floor.mean) // stride**2
    space = SearchSpace(
        presets.get(preset), batch_size, parameters, channels, stride, latent_channels
    )
    judge = _Judge(tiles, val_images, floor, space, epochs, seed, trials, say)
    return PresetTuner(space, judge, trials=trials, seed=seed, directory=directory, say=say)


def best(tuner: "PresetTuner") -> tuple[Preset, int]:
    """The preset and the batch size of the best trial."""
    return search_space.tuned(tuner.space.preset, tuner.get_best_hyperparameters()[0].values)


class PresetTuner(base_tuner.BaseTuner):
    """Bayesian optimisation of a preset; the same arguments give the same trials.

    Args:
        space: what to search.
        judge: gives the mean val PSNR in dB of a preset and a batch size; what it raises as
            TrainingError is a failed trial. Its `key` names all that its answers depend on.
        trials: how many.
        seed: of the search.
        directory: where its state is kept.
        say: takes a line for each trial.
    """

    def __init__(
        self,
        space: SearchSpace,
        judge: Any,
        *,
        trials: int,
        seed: int,
        directory: str | Path,
        say: Callable[[str], None],
    ):
        self.space, self._judge, self._say = space, judge, say
        hyperparameters = keras_tuner.HyperParameters()
        space.define(hyperparameters)
        oracle = Oracle(
            objective=keras_tuner.Objective(OBJECTIVE, "max"),
            max_trials=trials,
            # Keras-tuner takes 0 for any.
            seed=seed + 1,
            hyperparameters=hyperparameters,
            # However many do not train, the others count.
            max_consecutive_failed_trials=trials + 1,
        )
        oracle.verbose = 0
        # Keras-tuner goes on with whatever it finds there, of these images or of others.
        super().__init__(oracle, directory=str(directory), project_name=judge.key)

    def search(self, **_: Any) -> None:
        """Runs the trials that are missing.

        Raises:
            TrainingError: if none of them trained.
        """
        try:
            super().search()
        except FatalError as error:
            raise error.__cause__ or error from None
        if all(trial.score is None for trial in self.oracle.trials.values()):
            raise TrainingError(
                f"none of the {len(self.oracle.trials)} trials trained: their losses were not "
                "finite. Look for broken images in the data"
            )

    def run_trial(self, trial: Any, **_: Any) -> dict[str, float]:
        """Trains and judges one point of the space."""
        try:
            values = trial.hyperparameters.values
            number = f"{int(trial.trial_id) + 1} of {self.oracle.max_trials}"
            shown = search_space.describe(search_space.point(self.space, values))
            what = f"    trial {number}: {shown}"
            psnr = self._judge(*search_space.tuned(self.space.preset, values))
        except TrainingError as error:
            self._say(f"{what}: did not train")
            raise FailedTrialError(str(error)) from error
        except Exception as error:
            raise FatalError(str(error)) from error
        self._say(f"{what}: {psnr:.2f} dB")
        return {OBJECTIVE: psnr}


class Oracle(keras_tuner.oracles.BayesianOptimizationOracle):
    """Keras-tuner's Bayesian optimisation, with the preset itself as the first trial."""

    trials: dict[str, Any]

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The values of the next trial."""
        if not self.trials:
            return {"status": "RUNNING", "values": dict(self.get_space().values)}
        values: dict[str, Any] = super().populate_space(trial_id)
        return values

    def reload(self) -> None:
        """Reads what an earlier search left."""
        super().reload()
        # They come in the order of the folder.
        self.trials = dict(sorted(self.trials.items(), key=lambda item: int(item[0])))


class _Judge:
    """Trains a preset for some epochs and measures it on held-out images."""

    def __init__(
        self,
        tiles: Callable[[int], TileSource],
        val_images: Iterable[np.ndarray],
        floor: linear.PatchPCA,
        space: SearchSpace,
        epochs: int,
        seed: int,
        trials: int,
        say: Callable[[str], None],
    ):
        self._say = say
        self._tiles, self._val_images, self._floor = tiles, val_images, floor
        self._space, self._epochs, self._seed = space, epochs, seed
        settings = [dataclasses.asdict(space), epochs, seed, trials, keras.backend.backend()]
        arrays = (f"{array.shape}".encode() + array.tobytes() for array in floor)
        self.key = sha256_of_parts([json.dumps(settings).encode(), *arrays])[:32]

    def __call__(self, preset: Preset, batch_size: int) -> float:
        space = self._space
        ladder = begin(
            preset,
            self._tiles(batch_size),
            self._floor,
            channels=space.channels,
            stride=space.stride,
            latent_channels=space.latent_channels,
            seed=self._seed,
        )
        ladder.train(self._epochs, say=lambda line: self._say(f"    {line}"))
        with ladder.averaged() as model:
            psnr = mean_psnr(model, self._val_images)
        # Compiled functions hang in cycles: a hundred megabytes for each model.
        del ladder, model
        gc.collect()
        return psnr
