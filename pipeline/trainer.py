"""The Trainer's side of one stage: FnArgs in, `keras_ae.training` at work, a Model artifact out."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from keras_ae import contract as c
from keras_ae import linear, metrics, presets
from keras_ae.datasets.streaming import StoredImages, StreamedTiles
from keras_ae.export import export
from keras_ae.models import ConvAutoencoder
from keras_ae.tiles import Tiles, TileSource, to_float, to_uint8
from keras_ae.training import Ladder
from pipeline import console, memory
from pipeline.preprocessing import PATCH_MOMENTS

STATE = Path("training_state") / "state.npz"
SUMMARY = Path("training_state") / "summary.json"
SCORED_PIXELS = 1_000_000
"""Val images that are held and scored together, or one if it is larger."""


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """What a Trainer is told in its `custom_config`.

    Attributes:
        start, stop: epochs of the ladder before and after.
        preset, channels, stride, latent_channels: of the model.
        seed: of the initial weights and of the tiles.
        batch_size: largest number of tiles in a step.
        memory_limit: bytes of decoded training images above which they are streamed; None for half
            of the machine's memory.
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
    memory_limit: int | None
    checkpoints: str
    fingerprint: str


def run_fn(fn_args: FnArgs) -> None:
    """Trains one stage of the ladder and writes SavedModel, training state and summary."""
    config = StageConfig(**fn_args.custom_config)
    moments = read_moments(fn_args.transform_graph_path)
    floor = linear.fit(moments, config.latent_channels)
    images = StoredImages(fn_args.train_files)
    ladder = _ladder(config, _tiles(config, images), floor)
    before = None
    if config.start:
        before = Path(fn_args.base_model).parent / STATE
        ladder.restore(before)

    writer = tf.summary.create_file_writer(fn_args.model_run_dir)
    checkpoint = (
        Path(config.checkpoints) / f"{_key(config, ladder, before, fn_args.train_files)}.npz"
    )
    with writer.as_default():
        summary = ladder.climb(
            config.stop, checkpoint=checkpoint, on_epoch=_log_epoch, progress=console.terminal()
        )
    artifact = Path(fn_args.serving_model_dir).parent
    ladder.save(artifact / STATE)
    with ladder.averaged() as model:
        val_mse = mse_of_each(model, StoredImages(fn_args.eval_files).read(config.channels))
        export(model, Path(fn_args.serving_model_dir), floor=floor, val_mse=val_mse)
    facts = {
        **dataclasses.asdict(summary),
        "preset": config.preset,
        "channels": config.channels,
        "stride": config.stride,
        "latent_channels": config.latent_channels,
        "seed": config.seed,
        "parameters": model.count_params(),
        "decoded_bytes": images.decoded_bytes(config.channels),
        "placement": ladder.placement,
        "tile": ladder.tiles.size,
        "tiles_per_epoch": len(ladder.tiles),
        "backend": keras.backend.backend(),
    }
    (artifact / SUMMARY).write_text(json.dumps(facts, indent=1))


def read_images(images: StoredImages, channels: int) -> list[np.ndarray]:
    """Decodes images, uint8 [H, W, channels], in the order of their sources."""
    return [image for _, image in sorted(images.read(channels), key=lambda item: item[0])]


def read_moments(transform_graph: str) -> np.ndarray:
    """Evaluates the patch moments once from the Transform graph, float64 [1 + p, 1 + p]."""
    transform = tft.TFTransformOutput(transform_graph)
    blank = tf.io.encode_png(tf.zeros((1, 1, 1), tf.uint8))
    features = transform.transform_raw_features({c.IMAGE_ENCODED: blank[None, None]})
    flat = features[PATCH_MOMENTS][0].numpy().astype(np.float64)
    side = int(len(flat) ** 0.5)
    return flat.reshape(side, side)


def _tiles(config: StageConfig, images: StoredImages) -> TileSource:
    """The training tiles, from memory where the decoded images fit there; says which."""
    limit = memory.default_limit() if config.memory_limit is None else config.memory_limit
    decoded = images.decoded_bytes(config.channels)
    streamed = decoded > limit
    where = f"more than {memory.shown(limit)}: streamed" if streamed else "in memory"
    text = f"training images: {memory.shown(decoded)} decoded, {where}"
    logging.info(text)
    if not config.start:
        console.say(f"    {text}")
    options = {"stride": config.stride, "batch_size": config.batch_size, "seed": config.seed}
    if streamed:
        return StreamedTiles(images, config.channels, **options)
    return Tiles(read_images(images, config.channels), **options)


def _ladder(config: StageConfig, tiles: TileSource, floor: linear.PatchPCA) -> Ladder:
    keras.utils.set_random_seed(config.seed)
    model = ConvAutoencoder(config.preset, config.channels, config.stride, config.latent_channels)
    if presets.get(config.preset).architecture == "linear-residual":
        linear.set_linear_path(model, floor)
    return Ladder(model, tiles)


def _key(config: StageConfig, ladder: Ladder, before: Path | None, patterns: list[str]) -> str:
    """Names all that determines the stage, so that a checkpoint never meets another one."""
    settings: dict[str, Any] = {**dataclasses.asdict(config), "checkpoints": None}
    # Not the limit itself matters but on which side of it the images are.
    settings["memory_limit"] = ladder.placement
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    files = sorted(tf.io.gfile.glob(list(patterns)))
    for path in [*files, *([before] if before else [])]:
        with Path(path).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]


def _log_epoch(ladder: Ladder) -> None:
    tf.summary.scalar("loss", ladder.loss, step=ladder.epoch)
    logging.info("epoch %d: loss %.6f", ladder.epoch, ladder.loss)


def mse_of_each(model: ConvAutoencoder, images: Iterable[tuple[int, np.ndarray]]) -> list[float]:
    """The error of each image, as `keras_ae.metrics.mse`, in any order.

    Images of one size go through the model together; only some are held at a time.

    Args:
        model: the autoencoder.
        images: what `keras_ae.datasets.streaming.StoredImages.read` yields.
    """

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, model.channels), tf.uint8)])
    def score(batch: Any) -> Any:
        return metrics.mse(batch, to_uint8(model(to_float(batch))))

    batches = _batches(image for _, image in images)
    return [error for batch in batches for error in score(tf.constant(batch)).numpy().tolist()]


def _batches(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Images of one size together, as far as they come within `SCORED_PIXELS` of each other."""
    waiting: dict[tuple[int, ...], list[np.ndarray]] = {}
    pixels = 0
    for image in images:
        count = image.shape[0] * image.shape[1]
        if pixels + count > SCORED_PIXELS:
            yield from map(np.stack, waiting.values())
            waiting, pixels = {}, 0
        waiting.setdefault(image.shape, []).append(image)
        pixels += count
    yield from map(np.stack, waiting.values())
