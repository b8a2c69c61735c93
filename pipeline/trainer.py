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
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from keras_ae import contract as c
from keras_ae import linear, metrics, presets
from keras_ae.datasets.decoding import decode_stored
from keras_ae.export import export
from keras_ae.models import ConvAutoencoder
from keras_ae.tiles import Tiles, to_float, to_uint8
from keras_ae.training import Ladder
from pipeline import console
from pipeline.preprocessing import PATCH_MOMENTS

STATE = Path("training_state") / "state.npz"
SUMMARY = Path("training_state") / "summary.json"


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """What a Trainer is told in its `custom_config`.

    Attributes:
        start, stop: epochs of the ladder before and after.
        preset, channels, stride, latent_channels: of the model.
        seed: of the initial weights and of the tiles.
        batch_size: largest number of tiles in a step.
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
    images = read_images(fn_args.train_files, config.channels)
    moments = read_moments(fn_args.transform_graph_path)
    floor = linear.fit(moments, config.latent_channels)
    ladder = _ladder(config, images, floor)
    before = None
    if config.start:
        before = Path(fn_args.base_model).parent / STATE
        ladder.restore(before)

    writer = tf.summary.create_file_writer(fn_args.model_run_dir)
    checkpoint = Path(config.checkpoints) / f"{_key(config, before, fn_args.train_files)}.npz"
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
        "preset": config.preset,
        "channels": config.channels,
        "stride": config.stride,
        "latent_channels": config.latent_channels,
        "seed": config.seed,
        "parameters": model.count_params(),
        "tile": ladder.tiles.size,
        "tiles_per_epoch": len(ladder.tiles),
        "backend": keras.backend.backend(),
    }
    (artifact / SUMMARY).write_text(json.dumps(facts, indent=1))


def read_images(patterns: list[str], channels: int) -> list[np.ndarray]:
    """Decodes the images of GZIP TFRecords, in the order of their sources.

    Returns:
        uint8 arrays [H, W, channels].
    """
    spec = {
        name: tf.io.FixedLenFeature((), tf.string) for name in (c.IMAGE_ENCODED, c.IMAGE_SOURCE)
    }

    def parse(record: Any) -> tuple[Any, Any]:
        example = tf.io.parse_single_example(record, spec)
        return example[c.IMAGE_SOURCE], decode_stored(example[c.IMAGE_ENCODED], channels)

    files = tf.io.gfile.glob(list(patterns))
    records = tf.data.TFRecordDataset(files, compression_type="GZIP")
    images = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE).as_numpy_iterator()
    return [image for _, image in sorted(images, key=lambda item: item[0])]


def read_moments(transform_graph: str) -> np.ndarray:
    """Evaluates the patch moments once from the Transform graph, float64 [1 + p, 1 + p]."""
    transform = tft.TFTransformOutput(transform_graph)
    blank = tf.io.encode_png(tf.zeros((1, 1, 1), tf.uint8))
    features = transform.transform_raw_features({c.IMAGE_ENCODED: blank[None, None]})
    flat = features[PATCH_MOMENTS][0].numpy().astype(np.float64)
    side = int(len(flat) ** 0.5)
    return flat.reshape(side, side)


def _ladder(config: StageConfig, images: list[np.ndarray], floor: linear.PatchPCA) -> Ladder:
    keras.utils.set_random_seed(config.seed)
    model = ConvAutoencoder(config.preset, config.channels, config.stride, config.latent_channels)
    if presets.get(config.preset).architecture == "linear-residual":
        linear.set_linear_path(model, floor)
    tiles = Tiles(images, stride=config.stride, batch_size=config.batch_size, seed=config.seed)
    return Ladder(model, tiles)


def _key(config: StageConfig, before: Path | None, patterns: list[str]) -> str:
    """Names all that determines the stage, so that a checkpoint never meets another one."""
    settings: dict[str, Any] = {**dataclasses.asdict(config), "checkpoints": None}
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
