"""The Trainer's side of one stage: FnArgs in, a ladder that trains, a Model artifact out."""

import dataclasses
import json
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from keras_ae import presets, storage
from keras_ae.datasets.streaming import StoredImages
from keras_ae.models import linear
from keras_ae.presets import Preset
from keras_ae.saved_model.export import Exporter
from keras_ae.training.ladder import Ladder, create_ladder
from keras_ae.training.validation import mse_per_image
from keras_ae.tuning import search_space
from pipeline.runtime import artifacts, console, ladder_cache, plan, signals
from pipeline.runtime.artifacts import FLOOR, MODEL, STATE, SUMMARY
from pipeline.runtime.environment import describe
from pipeline.runtime.settings import StageConfig
from pipeline.runtime.stages import StageSummary
from pipeline.training_data import TrainingImages, digest, read_moments


def run_fn(fn_args: FnArgs) -> None:
    """Trains one stage of the ladder.

    Writes SavedModel, `.keras` file, training state, the linear floor and a summary.
    """
    config = StageConfig(**fn_args.custom_config)
    preset, batch_size = _preset(config, fn_args.hyperparameters)
    images = TrainingImages(fn_args.train_files, config.channels, config.memory_limit_bytes)
    data = digest("", storage.glob(*fn_args.train_files))
    foot = data + _settings(config, preset, batch_size, images.streamed, start=0, stop=0)
    if not config.start:
        ladder_cache.clear()
    # It exports with one size of tiles, which is no part of what it trains.
    name = f"{foot}, tile {config.tile}"
    exported = ladder_cache.pop(name)
    images.report_placement(to_terminal=exported is None)
    if exported is None:
        floor = linear.fit(read_moments(fn_args.transform_graph_path), config.latent_channels)
        ladder = _begin(config, preset, batch_size, images, floor)
        exporter = Exporter(ladder.model, floor=floor, tile=config.tile)
        exported = ladder_cache.Exported(ladder, exporter)
    ladder, exporter = exported
    with ExitStack() as stack:
        before = []
        if config.start:
            state = storage.join(storage.parent(fn_args.base_model), STATE)
            before.append(stack.enter_context(artifacts.fetched(state)))
            ladder.restore(before[0])
        ladder_cache.put(name, exported)
        key = digest(data + _settings(config, preset, batch_size, images.streamed), before)
        checkpoint, keep = stack.enter_context(
            artifacts.kept(storage.join(config.checkpoints, f"{key}.npz"))
        )
        forecast = plan.forecast(config.preset, config.seed, config.stop)
        writer = tf.summary.create_file_writer(fn_args.model_run_dir)
        with signals.deferred(), writer.as_default():
            summary = ladder.train(
                config.stop,
                checkpoint=checkpoint,
                on_checkpoint=keep,
                on_epoch=_log_epoch,
                status_lines=forecast.during,
                should_stop=signals.requested,
                progress=console.terminal(),
                say=_say,
            )
        for line in forecast.at_end(ladder):
            _say(line)
        # Uploaded, where that is to be done, before the checkpoint goes.
        place = stack.enter_context(artifacts.written(storage.parent(fn_args.serving_model_dir)))
        _save(ladder, exporter, fn_args, config, place)
        left = StageSummary(
            start=summary.start,
            stop=summary.stop,
            seconds=summary.seconds,
            tiles_per_second=summary.tiles_per_second,
            loss=summary.loss,
            preset=preset.name,
            preset_settings=preset,
            channels=config.channels,
            stride=config.stride,
            latent_channels=config.latent_channels,
            seed=config.seed,
            batch_size=batch_size,
            parameters=ladder.model.count_params(),
            flops_per_pixel=ladder.model.flops_per_pixel,
            decoded_bytes=images.decoded_bytes,
            placement=ladder.placement,
            tile=ladder.tiles.size,
            served_tile=config.tile,
            tiles_per_epoch=len(ladder.tiles),
            backend=keras.backend.backend(),
            code_fingerprint=config.fingerprint,
            trained_on=describe(),
            losses=tuple(float(f"{loss:.6g}") for loss in ladder.losses[config.start :]),
        )
        (place / SUMMARY).write_text(left.to_json())


def _save(
    ladder: Ladder, exporter: Exporter, fn_args: FnArgs, config: StageConfig, place: Path
) -> None:
    ladder.save(place / STATE)
    linear.save(exporter.floor, place / FLOOR)
    with ladder.ema_model() as model:
        val_images = StoredImages(fn_args.eval_files).read(config.channels)
        val_mse = mse_per_image(model, (image for _, image in val_images))
        model.save(place / MODEL)
        exporter.write(place / storage.name(fn_args.serving_model_dir), val_mse)


def _preset(config: StageConfig, hyperparameters: dict[str, Any] | None) -> tuple[Preset, int]:
    """The model and the batch size: as told, or as the Tuner found them."""
    preset = presets.get(config.preset)
    if not hyperparameters:
        return preset, config.batch_size
    return search_space.apply_values(preset, hyperparameters["values"])


def _begin(
    config: StageConfig,
    preset: Preset,
    batch_size: int,
    images: TrainingImages,
    floor: linear.PatchPCA,
) -> Ladder:
    return create_ladder(
        preset,
        images.tiles(config.stride, batch_size, config.seed),
        floor,
        channels=config.channels,
        stride=config.stride,
        latent_channels=config.latent_channels,
        seed=config.seed,
    )


def _settings(
    config: StageConfig, preset: Preset, batch_size: int, streamed: bool, **others: int
) -> str:
    """All that determines the stage beside its files: a checkpoint never meets another one."""
    settings: dict[str, Any] = {
        **dataclasses.asdict(config),
        "preset": dataclasses.asdict(preset),
        "batch_size": batch_size,
        # Not the limit itself matters but on which side of it the images are.
        "memory_limit_bytes": streamed,
        "checkpoints": None,
        # Of the export only.
        "tile": None,
        **others,
    }
    return json.dumps(settings, sort_keys=True)


def _say(line: str) -> None:
    console.say(f"    {line}")


def _log_epoch(ladder: Ladder) -> None:
    tf.summary.scalar("loss", ladder.loss, step=ladder.epoch)
    logging.info("epoch %d: loss %.6f", ladder.epoch, ladder.loss)
