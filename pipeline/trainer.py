"""`run_fn` of the Trainers: trains one stage of a ladder, and writes its Model artifact."""

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
from keras_ae.stages import StageSummary
from keras_ae.training.ladder import Ladder, create_ladder
from keras_ae.training.validation import mse_per_image
from keras_ae.tuning import search_space
from pipeline.runtime import artifacts, console, ingested, ladder_cache, plan, signals
from pipeline.runtime.artifacts import FLOOR, MODEL, STATE, SUMMARY
from pipeline.runtime.environment import describe
from pipeline.runtime.settings import StageConfig
from pipeline.training_data import TrainingImages, digest, read_moments


def run_fn(fn_args: FnArgs) -> None:
    """Trains one stage of the ladder.

    Writes the SavedModel, the `.keras` file, the training state, the linear floor and a summary.
    """
    config = StageConfig.from_dict(fn_args.custom_config)
    preset, batch_size = _preset(config, fn_args.hyperparameters)
    images = TrainingImages(fn_args.train_files, config.channels, config.memory_limit_bytes)
    data = digest("", storage.glob(*fn_args.train_files))
    initial_state = data + _settings(config, preset, batch_size, images.streamed, start=0, stop=0)
    if not config.start:
        ladder_cache.clear()
    white = ingested.read(storage.parent(storage.parent(fn_args.train_files[0]))).white
    # The exporter depends on these, which do not affect the training.
    cache_key = f"{initial_state}, tile {config.tile}, white {white}"
    exported = ladder_cache.pop(cache_key)
    images.report_placement(to_terminal=exported is None)
    if exported is None:
        floor = linear.fit(read_moments(fn_args.transform_graph_path), config.latent_channels)
        ladder = create_ladder(
            preset,
            images.tiles(config.stride, batch_size, config.seed),
            floor,
            channels=config.channels,
            stride=config.stride,
            latent_channels=config.latent_channels,
            seed=config.seed,
        )
        exporter = Exporter(ladder.model, floor=floor, tile=config.tile, white=white)
        exported = ladder_cache.Exported(ladder, exporter)
    ladder, exporter = exported
    with ExitStack() as stack:
        base_states = []
        if config.start:
            state = storage.join(storage.parent(fn_args.base_model), STATE)
            base_states.append(stack.enter_context(artifacts.fetched(state)))
            ladder.restore(base_states[0])
        ladder_cache.put(cache_key, exported)
        key = digest(data + _settings(config, preset, batch_size, images.streamed), base_states)
        checkpoint, upload = stack.enter_context(
            artifacts.checkpoint_file(storage.join(config.checkpoints, f"{key}.npz"))
        )
        forecast = plan.forecast(config.preset, config.seed, config.stop)
        writer = tf.summary.create_file_writer(fn_args.model_run_dir)
        with signals.deferred(), writer.as_default():
            result = ladder.train(
                config.stop,
                checkpoint=checkpoint,
                on_checkpoint=upload,
                on_epoch=_log_epoch,
                status_lines=forecast.during,
                should_stop=signals.requested,
                progress=console.terminal(),
                say=_say,
            )
        for line in forecast.at_end(ladder):
            _say(line)
        # Entered after the checkpoint, so that the artifact is uploaded before that is removed.
        folder = stack.enter_context(artifacts.written(storage.parent(fn_args.serving_model_dir)))
        _save(ladder, exporter, fn_args, config, folder)
        stage_summary = StageSummary(
            start=result.start,
            stop=result.stop,
            seconds=result.seconds,
            tiles_per_second=result.tiles_per_second,
            loss=result.loss,
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
        (folder / SUMMARY).write_text(stage_summary.to_json())


def _save(
    ladder: Ladder, exporter: Exporter, fn_args: FnArgs, config: StageConfig, folder: Path
) -> None:
    ladder.save(folder / STATE)
    linear.save(exporter.floor, folder / FLOOR)
    with ladder.ema_model() as model:
        val_images = StoredImages(fn_args.eval_files).read(config.channels)
        val_mse = mse_per_image(model, (image for _, image in val_images))
        model.save(folder / MODEL)
        exporter.write(folder / storage.name(fn_args.serving_model_dir), val_mse)


def _preset(config: StageConfig, hyperparameters: dict[str, Any] | None) -> tuple[Preset, int]:
    """The preset and the batch size: those of the settings, or the best ones of a Tuner."""
    preset = presets.get(config.preset)
    if hyperparameters:
        return search_space.apply_values(preset, hyperparameters["values"])
    return preset, config.batch_size


def _settings(
    config: StageConfig, preset: Preset, batch_size: int, streamed: bool, **others: int
) -> str:
    """What the training of a stage depends on, as text for cache and checkpoint keys.

    Those of `config` but for `others`, with the preset and the batch size of a Tuner if it has one.
    """
    settings = {
        **dataclasses.asdict(config),
        "preset": dataclasses.asdict(preset),
        "batch_size": batch_size,
        # The limit matters only by whether the images are streamed.
        "memory_limit_bytes": streamed,
        "checkpoints": None,
        # It affects the export only.
        "tile": None,
        **others,
    }
    return json.dumps(settings, sort_keys=True)


def _say(line: str) -> None:
    console.say(f"    {line}")


def _log_epoch(ladder: Ladder) -> None:
    tf.summary.scalar("loss", ladder.loss, step=ladder.epoch)
    logging.info("epoch %d: loss %.6f", ladder.epoch, ladder.loss)
