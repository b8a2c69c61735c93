"""The Trainer's side of one stage: FnArgs in, `keras_ae.training` at work, a Model artifact out."""

import dataclasses
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from keras_ae import linear, metrics, presets, search_space
from keras_ae.export import export
from keras_ae.models import ConvAutoencoder
from keras_ae.presets import Preset
from keras_ae.tiles import to_float, to_uint8
from keras_ae.training import Ladder, begin
from pipeline import console
from pipeline.inputs import read_images, read_moments

STATE = Path("training_state") / "state.npz"
SUMMARY = Path("training_state") / "summary.json"


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """What a Trainer is told in its `custom_config`.

    Attributes:
        start, stop: epochs of the ladder before and after.
        preset, channels, stride, latent_channels: of the model; a Tuner may change the preset.
        seed: of the initial weights and of the tiles.
        batch_size: largest number of tiles in a step; a Tuner may change it.
        checkpoints: folder for the state of unfinished stages.
        fingerprint: of the training code.
    """

    start: int
    stop: int
    preset: str
    channels: int
    stride: int
    latent_channels: int
    seed: int
    batch_size: int
    checkpoints: str
    fingerprint: str


def run_fn(fn_args: FnArgs) -> None:
    """Trains one stage of the ladder and writes SavedModel, training state and summary."""
    config = StageConfig(**fn_args.custom_config)
    preset, batch_size = _preset(config, fn_args.hyperparameters)
    images = read_images(fn_args.train_files, config.channels)
    moments = read_moments(fn_args.transform_graph_path)
    floor = linear.fit(moments, config.latent_channels)
    ladder = begin(
        preset,
        images,
        floor,
        channels=config.channels,
        stride=config.stride,
        latent_channels=config.latent_channels,
        batch_size=batch_size,
        seed=config.seed,
    )
    before = None
    if config.start:
        before = Path(fn_args.base_model).parent / STATE
        ladder.restore(before)

    writer = tf.summary.create_file_writer(fn_args.model_run_dir)
    key = _key(config, preset, batch_size, before, fn_args.train_files)
    checkpoint = Path(config.checkpoints) / f"{key}.npz"
    with writer.as_default():
        summary = ladder.climb(
            config.stop, checkpoint=checkpoint, on_epoch=_log_epoch, progress=console.terminal()
        )
    artifact = Path(fn_args.serving_model_dir).parent
    ladder.save(artifact / STATE)
    with ladder.averaged() as model:
        val_mse = _mse_of_each(model, read_images(fn_args.eval_files, config.channels))
        export(model, Path(fn_args.serving_model_dir), floor=floor, val_mse=val_mse)
    facts = {
        **dataclasses.asdict(summary),
        "preset": preset.name,
        "channels": config.channels,
        "stride": config.stride,
        "latent_channels": config.latent_channels,
        "seed": config.seed,
        "batch_size": batch_size,
        "parameters": model.count_params(),
        "tile": ladder.tiles.size,
        "tiles_per_epoch": len(ladder.tiles),
        "backend": keras.backend.backend(),
    }
    (artifact / SUMMARY).write_text(json.dumps(facts, indent=1))


def _preset(config: StageConfig, hyperparameters: dict[str, Any] | None) -> tuple[Preset, int]:
    """The model and the batch size: as told, or as the Tuner found them."""
    preset = presets.get(config.preset)
    if not hyperparameters:
        return preset, config.batch_size
    return search_space.tuned(preset, hyperparameters["values"])


def _key(
    config: StageConfig, preset: Preset, batch_size: int, before: Path | None, patterns: list[str]
) -> str:
    """Names all that determines the stage, so that a checkpoint never meets another one."""
    settings: dict[str, Any] = {
        **dataclasses.asdict(config),
        "preset": dataclasses.asdict(preset),
        "batch_size": batch_size,
        "checkpoints": None,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    files = sorted(tf.io.gfile.glob(list(patterns)))
    for path in [*files, *([before] if before else [])]:
        with Path(path).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]


def _log_epoch(ladder: Ladder) -> None:
    tf.summary.scalar("loss", ladder.loss, step=ladder.epoch)
    logging.info("epoch %d: loss %.6f", ladder.epoch, ladder.loss)


def _mse_of_each(model: ConvAutoencoder, images: list[np.ndarray]) -> list[float]:
    reconstruct = tf.function(lambda x: to_uint8(model(to_float(x))), reduce_retracing=True)
    return [float(metrics.mse(x[None], reconstruct(tf.constant(x[None])))[0]) for x in images]
