"""`tuner_fn` of the Tuner: sets up the search of `keras_ae.tuning.tuner`."""

from collections.abc import Iterator

import numpy as np
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.tuner.component import TunerFnResult

from keras_ae import storage
from keras_ae.datasets.streaming import StoredImages
from keras_ae.models import linear
from keras_ae.tuning import tuner as search
from pipeline.runtime import console
from pipeline.runtime.search import TunerConfig
from pipeline.training_data import TrainingImages, digest, read_moments


class _ValImages:
    """The validation images, which are decoded again in each iteration."""

    def __init__(self, patterns: list[str], channels: int):
        self._stored, self._channels = StoredImages(patterns), channels

    def __iter__(self) -> Iterator[np.ndarray]:
        return (image for _, image in self._stored.read(self._channels))


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """Sets up the search. The Tuner runs it, and writes the best hyperparameters and all trials."""
    config = TunerConfig.from_dict(fn_args.custom_config)
    images = TrainingImages(fn_args.train_files, config.channels, config.memory_limit_bytes)
    images.report_placement(to_terminal=False)
    files = storage.glob(*fn_args.train_files, *fn_args.eval_files)
    # In the folder of the checkpoints, because TFX removes the Tuner's own after a failure.
    key = digest(f"{config.fingerprint} {images.streamed}", files)
    tuner = search.create_tuner(
        lambda batch_size: images.tiles(config.stride, batch_size, config.seed),
        _ValImages(fn_args.eval_files, config.channels),
        directory=storage.join(config.checkpoints, f"tuning-{key}"),
        preset=config.preset,
        trials=config.trials,
        epochs=config.epochs,
        parameters=config.parameters,
        batch_size=config.batch_size,
        stride=config.stride,
        latent_channels=config.latent_channels,
        seed=config.seed,
        floor=linear.fit(read_moments(fn_args.transform_graph_path), config.latent_channels),
        say=console.say,
    )
    return TunerFnResult(tuner=tuner, fit_kwargs={})
