"""The training step on PyTorch, which runs eagerly."""

from collections.abc import Callable, Iterator

import keras
import numpy as np
from keras import ops

from keras_ae.concurrency import prefetch
from keras_ae.datasets.tiles import TileSource
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.models.layers import to_float
from keras_ae.training.backends.position import Position, TrainEpoch
from keras_ae.types import Tensor


def compile_train_epoch(
    model: ConvAutoencoder,
    optimizer: keras.Optimizer,
    ema_weights: list[keras.Variable],
    ema_decay: Callable[[Tensor], Tensor],
    tiles: TileSource,
) -> tuple[TrainEpoch, str]:
    """Creates the function that trains an epoch; see `compile_train_epoch` on TensorFlow."""
    import torch

    variables = model.trainable_variables

    def step(batch: np.ndarray, micro_batch_size: int) -> torch.Tensor:
        model.zero_grad()
        batch_loss = ops.zeros(())
        for first in range(0, len(batch), micro_batch_size):
            micro_batch = batch[first : first + micro_batch_size]
            images = to_float(ops.convert_to_tensor(micro_batch))
            loss = ops.mean(ops.square(model(images, training=True) - images))
            loss = loss * (len(micro_batch) / len(batch))
            loss.backward()
            batch_loss = batch_loss + loss.detach()
        gradients = [variable.value.grad for variable in variables]
        with torch.no_grad():
            optimizer.apply(gradients, variables)
            weight = 1.0 - ema_decay(ops.cast(optimizer.iterations.value, "float32"))
            for ema_weight, variable in zip(ema_weights, variables):
                ema_weight.assign(ema_weight.value + weight * (variable.value - ema_weight.value))
        return batch_loss * len(batch)

    def train_epoch(
        epoch: int, start: Position, micro_batch_size: int, should_yield: Callable[[], bool]
    ) -> Iterator[Position]:
        batches_done = start.batches_done
        loss_sum = ops.convert_to_tensor(np.float32(start.loss_sum))
        for batch in prefetch(tiles.epoch(epoch, batches_done)):
            loss_sum = loss_sum + step(batch, micro_batch_size)
            batches_done += 1
            if batches_done == len(tiles.batch_sizes) or should_yield():
                yield Position(batches_done, float(loss_sum))

    return train_epoch, tiles.placement


def is_chief() -> bool:
    """Whether this process is the one that writes files."""
    return True


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that a device ran out of memory."""
    import torch

    # The allocator of the CPU raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
