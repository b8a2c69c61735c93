"""The compiled inner loop on TensorFlow."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_ae.concurrency import prefetch
from keras_ae.datasets.tiles import TileSource
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.models.layers import to_float
from keras_ae.training.backends.position import Position, Run
from keras_ae.types import Tensor

# A call costs a millisecond of its own; more steps in one were faster still, but slow to compile.
STEPS_IN_A_CALL = 2


def compile_epochs(
    model: ConvAutoencoder,
    optimizer: keras.Optimizer,
    average: list[keras.Variable],
    decay: Callable[[Tensor], Tensor],
    tiles: TileSource,
) -> tuple[Run, str]:
    """Compiles the training step.

    TensorFlow places the work on a GPU where it sees one. In the scope of a
    `tf.distribute.MirroredStrategy` each device takes its part of every batch whose size their
    number divides, and a whole one of any other; XLA is then left out.

    Args:
        model: a built `ConvAutoencoder`.
        optimizer: a built Keras optimizer for `model.trainable_variables`.
        average: variables like `model.trainable_variables`, their moving average.
        decay: maps the number of the step, float32, to the average's decay.
        tiles: `keras_ae.datasets.tiles.Tiles` or what streams the like.

    Returns:
        What trains an epoch; and where the training images are.
    """
    import tensorflow as tf

    variables = model.trainable_variables
    strategy = tf.distribute.get_strategy()
    devices = strategy.num_replicas_in_sync

    def gradients_of(batch: Any) -> tuple[Any, list[Any]]:
        images = to_float(batch)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.math.squared_difference(model(images, training=True), images))
        return loss, tape.gradient(loss, variables)

    def in_parts(batch: Any, most: int) -> tuple[Any, list[Any]]:
        """The loss and the gradients of a batch, `most` tiles at a time, one after the other."""
        count = batch.shape[0]
        whole, rest = divmod(count, most)

        def add(first: Any, some: int, loss: Any, sums: list[Any]) -> tuple[Any, list[Any]]:
            part = tf.slice(batch, [first, 0, 0, 0], [some, *batch.shape[1:]])
            more, gradients = gradients_of(part)
            share = some / count
            return loss + share * more, [s + share * g for s, g in zip(sums, gradients)]

        _, loss, sums = tf.while_loop(
            lambda i, *_: i < whole,
            lambda i, loss, sums: (i + 1, *add(i * most, most, loss, sums)),
            (0, tf.zeros(()), [tf.zeros_like(variable.value) for variable in variables]),
            parallel_iterations=1,
        )
        if not rest:
            return loss, sums
        with tf.control_dependencies(sums):
            return add(whole * most, rest, loss, sums)

    def step(batch: Any, most: int) -> Any:
        loss, gradients = in_parts(batch, most) if most < batch.shape[0] else gradients_of(batch)
        if devices > 1:
            gradients = over_all_devices(gradients)
        optimizer.apply(gradients, variables)
        weight = 1.0 - decay(tf.cast(optimizer.iterations.value, tf.float32))
        for mean, variable in zip(average, variables):
            mean.assign_add(weight * (variable.value - mean.value))
        return loss

    def over_all_devices(gradients: list[Any]) -> list[Any]:
        """The optimizer clips what it gets and then sums over the devices; this makes that sum
        the clipped gradient of the whole batch."""
        replica = tf.distribute.get_replica_context()
        gradients = replica.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        if optimizer.global_clipnorm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, optimizer.global_clipnorm)
        return [gradient / devices for gradient in gradients]

    @tf.function(jit_compile=model.preset.jit_compile and devices == 1, autograph=False)
    def steps(batches: list[Any], counts: list[Any], most: int) -> Any:
        losses = (
            [step(batch, most) for batch in batches]
            if devices == 1
            else [
                strategy.reduce("MEAN", strategy.run(step, (batch, most)), axis=None)
                for batch in batches
            ]
        )
        return tf.add_n([loss * count for loss, count in zip(losses, counts)])

    def place(batch: np.ndarray) -> Any:
        if devices == 1:
            return tf.constant(batch)
        parts = [batch] * devices if len(batch) % devices else np.split(batch, devices)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    def run(
        epoch: int, at: Position, micro_batch_size: int, pause: Callable[[], bool]
    ) -> Iterator[Position]:
        done, total = at.batches, tf.constant(at.total, tf.float32)
        count, most = len(tiles.batch_sizes), -(-micro_batch_size // devices)
        batches = prefetch(tiles.epoch(epoch, done))
        while some := list(itertools.islice(batches, STEPS_IN_A_CALL)):
            counts = [tf.constant(len(batch), tf.float32) for batch in some]
            total += steps([place(batch) for batch in some], counts, most)
            done += len(some)
            if done == count or pause():
                yield Position(done, float(total))

    return run, tiles.placement


def is_chief() -> bool:
    """Whether this process is the one that writes files."""
    return True


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that a device has no room for a batch."""
    import tensorflow as tf

    return isinstance(error, tf.errors.ResourceExhaustedError)
