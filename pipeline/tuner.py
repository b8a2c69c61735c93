"""The Tuner's side of a search: FnArgs in, a tuner of `keras_ae.tuning` out."""

import dataclasses
from pathlib import Path

from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.tuner.component import TunerFnResult

from keras_ae import linear, tuning
from pipeline import console
from pipeline.inputs import read_images, read_moments


@dataclasses.dataclass(frozen=True)
class TunerConfig:
    """What a Tuner is told in its `custom_config`.

    Attributes:
        trials: how many.
        epochs: of each trial.
        parameters: most trainable numbers of a model.
        preset: around which to search.
        batch_size: largest number of tiles in a step, around which to search.
        channels, stride, latent_channels: of the model.
        seed: of weights, tiles and search.
        checkpoints: folder for the state of unfinished work.
        fingerprint: of the tuning code.
    """

    trials: int
    epochs: int
    parameters: int
    preset: str
    batch_size: int
    channels: int
    stride: int
    latent_channels: int
    seed: int
    checkpoints: str
    fingerprint: str


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """Prepares the search that the Tuner then runs; it writes the best values and all trials."""
    config = TunerConfig(**fn_args.custom_config)
    moments = read_moments(fn_args.transform_graph_path)
    tuner = tuning.tuner(
        read_images(fn_args.train_files, config.channels),
        read_images(fn_args.eval_files, config.channels),
        # The working folder that TFX gives does not outlive a failure.
        directory=Path(config.checkpoints) / f"tuning-{config.fingerprint}",
        preset=config.preset,
        trials=config.trials,
        epochs=config.epochs,
        parameters=config.parameters,
        batch_size=config.batch_size,
        stride=config.stride,
        latent_channels=config.latent_channels,
        seed=config.seed,
        floor=linear.fit(moments, config.latent_channels),
        say=console.say,
    )
    return TunerFnResult(tuner=tuner, fit_kwargs={})
