"""The inner loop on PyTorch."""

from collections.abc import Callable, Iterator

import keras
import numpy as np
from keras import ops

from keras_ae.concurrency import prefetch
from keras_ae.datasets.tiles import TileSource
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.models.layers import to_float
from keras_ae.training.backends.position import Position, Run
from keras_ae.types import Tensor


def compile_epochs(
    model: ConvAutoencoder,
    optimizer: keras.Optimizer,
    average: list[keras.Variable],
    decay: Callable[[Tensor], Tensor],
    tiles: TileSource,
) -> tuple[Run, str]:
    """Makes the training step, which runs eagerly.

    Takes and gives what `keras_ae.training.backends.tensorflow.compile_epochs` does.
    """
    import torch

    variables = model.trainable_variables

    def step(batch: np.ndarray, micro_batch_size: int) -> torch.Tensor:
        model.zero_grad()
        total = ops.zeros(())
        for first in range(0, len(batch), micro_batch_size):
            part = batch[first : first + micro_batch_size]
            images = to_float(ops.convert_to_tensor(part))
            loss = ops.mean(ops.square(model(images, training=True) - images))
            loss = loss * (len(part) / len(batch))
            loss.backward()
            total = total + loss.detach()
        gradients = [variable.value.grad for variable in variables]
        with torch.no_grad():
            optimizer.apply(gradients, variables)
            weight = 1.0 - decay(ops.cast(optimizer.iterations.value, "float32"))
            for mean, variable in zip(average, variables):
                mean.assign(mean.value + weight * (variable.value - mean.value))
        return total * len(batch)

    def run(
        epoch: int, at: Position, micro_batch_size: int, pause: Callable[[], bool]
    ) -> Iterator[Position]:
        done, total = at.batches, ops.convert_to_tensor(np.float32(at.total))
        count = len(tiles.batch_sizes)
        for batch in prefetch(tiles.epoch(epoch, done)):
            total = total + step(batch, micro_batch_size)
            done += 1
            if done == count or pause():
                yield Position(done, float(total))

    return run, tiles.placement


def is_chief() -> bool:
    """Whether this process is the one that writes files."""
    return True


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that a device has no room for a batch."""
    import torch

    # The CPU's allocator has no class of its own.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
