"""The compiled training step on TensorFlow."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ae.concurrency import prefetch
from keras_ae.datasets.tiles import TileSource
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.models.layers import to_float
from keras_ae.training.backends.position import Position, TrainEpoch
from keras_ae.types import Tensor

# A call has an overhead of a millisecond. More steps in a call would be faster still, but compiling
# them takes longer.
STEPS_PER_CALL = 2


def compile_train_epoch(
    model: ConvAutoencoder,
    optimizer: keras.Optimizer,
    ema_weights: list[keras.Variable],
    ema_decay: Callable[[Tensor], Tensor],
    tiles: TileSource,
) -> tuple[TrainEpoch, str]:
    """Compiles the training step.

    TensorFlow runs it on a GPU if it finds one. In the scope of a `tf.distribute.MirroredStrategy`,
    a batch is split evenly between the devices; if their number does not divide its size, every
    device computes the whole batch. XLA is not used with several devices.

    Args:
        model, optimizer: both built.
        ema_weights: the moving average of each variable in `model.trainable_variables`.
        ema_decay: maps the number of the step, float32, to the EMA decay.
        tiles: the training tiles.

    Returns:
        The function that trains an epoch, and where the training images are (see `Ladder`).
    """
    variables = model.trainable_variables
    strategy = tf.distribute.get_strategy()
    devices = strategy.num_replicas_in_sync

    def gradients_of(batch: Any) -> tuple[Any, list[Any]]:
        images = to_float(batch)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.math.squared_difference(model(images, training=True), images))
        return loss, tape.gradient(loss, variables)

    def accumulated_gradients(batch: Any, micro_size: int) -> tuple[Any, list[Any]]:
        """Computes the loss and the gradients of a batch in micro-batches, one after the other."""
        batch_size = batch.shape[0]
        whole, rest = divmod(batch_size, micro_size)

        def add(first: Any, size: int, loss: Any, sums: list[Any]) -> tuple[Any, list[Any]]:
            micro_batch = tf.slice(batch, [first, 0, 0, 0], [size, *batch.shape[1:]])
            micro_loss, gradients = gradients_of(micro_batch)
            share = size / batch_size
            return loss + share * micro_loss, [s + share * g for s, g in zip(sums, gradients)]

        _, loss, sums = tf.while_loop(
            lambda i, *_: i < whole,
            lambda i, loss, sums: (i + 1, *add(i * micro_size, micro_size, loss, sums)),
            (0, tf.zeros(()), [tf.zeros_like(variable.value) for variable in variables]),
            parallel_iterations=1,
        )
        if not rest:
            return loss, sums
        with tf.control_dependencies(sums):
            return add(whole * micro_size, rest, loss, sums)

    def step(batch: Any, micro_size: int) -> Any:
        if micro_size < batch.shape[0]:
            loss, gradients = accumulated_gradients(batch, micro_size)
        else:
            loss, gradients = gradients_of(batch)
        if devices > 1:
            gradients = clipped_share(gradients)
        optimizer.apply(gradients, variables)
        weight = 1.0 - ema_decay(tf.cast(optimizer.iterations.value, tf.float32))
        for ema_weight, variable in zip(ema_weights, variables):
            ema_weight.assign_add(weight * (variable.value - ema_weight.value))
        return loss

    def clipped_share(gradients: list[Any]) -> list[Any]:
        """Returns this device's share of the clipped gradient of the whole batch.

        Keras's optimizer clips the gradients of each device and then sums them over the devices,
        which is not the clipped gradient of the batch. Here they are averaged and clipped first;
        the optimizer's own clipping then changes nothing.
        """
        replica = tf.distribute.get_replica_context()
        gradients = replica.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        if optimizer.global_clipnorm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, optimizer.global_clipnorm)
        return [gradient / devices for gradient in gradients]

    @tf.function(jit_compile=model.preset.jit_compile and devices == 1, autograph=False)
    def steps(batches: list[Any], sizes: list[Any], micro_size: int) -> Any:
        def mean_loss(batch: Any) -> Any:
            if devices == 1:
                return step(batch, micro_size)
            return strategy.reduce("MEAN", strategy.run(step, (batch, micro_size)), axis=None)

        losses = [mean_loss(batch) for batch in batches]
        return tf.add_n([loss * size for loss, size in zip(losses, sizes)])

    def to_devices(batch: np.ndarray) -> Any:
        if devices == 1:
            return tf.constant(batch)
        parts = [batch] * devices if len(batch) % devices else np.split(batch, devices)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    def train_epoch(
        epoch: int, start: Position, micro_batch_size: int, should_yield: Callable[[], bool]
    ) -> Iterator[Position]:
        batches_done, loss_sum = start.batches_done, tf.constant(start.loss_sum, tf.float32)
        batch_count, micro_size = len(tiles.batch_sizes), -(-micro_batch_size // devices)
        remaining = prefetch(tiles.epoch(epoch, batches_done))
        while batches := list(itertools.islice(remaining, STEPS_PER_CALL)):
            sizes = [tf.constant(len(batch), tf.float32) for batch in batches]
            loss_sum += steps([to_devices(batch) for batch in batches], sizes, micro_size)
            batches_done += len(batches)
            if batches_done == batch_count or should_yield():
                yield Position(batches_done, float(loss_sum))

    return train_epoch, tiles.placement


def is_chief() -> bool:
    """Whether this process is the one that writes files."""
    return True


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that a device ran out of memory."""
    return isinstance(error, tf.errors.ResourceExhaustedError)
