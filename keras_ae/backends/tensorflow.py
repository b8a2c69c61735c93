"""The compiled inner loop on TensorFlow."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_ae.tiles import ahead, to_float

# A call costs a millisecond of its own; more steps in one were faster still, but slow to compile.
STEPS_IN_A_CALL = 2


def compile_epochs(
    model, optimizer, average: list, decay: Callable, tiles
) -> tuple[Callable[[int], float], str]:
    """Compiles the training step.

    TensorFlow places the work on a GPU where it sees one. In the scope of a
    `tf.distribute.MirroredStrategy` each device takes its part of every batch whose size their
    number divides, and a whole one of any other; XLA is then left out.

    Args:
        model: a built `ConvAutoencoder`.
        optimizer: a built Keras optimizer for `model.trainable_variables`.
        average: variables like `model.trainable_variables`, their moving average.
        decay: maps the number of the step, float32, to the average's decay.
        tiles: `keras_ae.tiles.Tiles` or what streams the like.

    Returns:
        A function of the epoch's number that trains on its tiles, updates the average and gives
        the mean loss over the tiles; and where the training images are.
    """
    import tensorflow as tf

    variables = model.trainable_variables
    strategy = tf.distribute.get_strategy()
    devices = strategy.num_replicas_in_sync

    def step(batch: Any) -> Any:
        images = to_float(batch)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.math.squared_difference(model(images, training=True), images))
        gradients = tape.gradient(loss, variables)
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

    @tf.function(jit_compile=model.preset.jit_compile and devices == 1)
    def steps(batches: list[Any], counts: list[Any]) -> Any:
        losses = (
            [step(batch) for batch in batches]
            if devices == 1
            else [
                strategy.reduce("MEAN", strategy.run(step, (batch,)), axis=None)
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

    def run(epoch: int) -> float:
        total = tf.zeros(())
        batches = ahead(tiles.epoch(epoch))
        while some := list(itertools.islice(batches, STEPS_IN_A_CALL)):
            counts = [tf.constant(len(batch), tf.float32) for batch in some]
            total += steps([place(batch) for batch in some], counts)
        return float(total) / len(tiles)

    return run, tiles.placement


def is_chief() -> bool:
    """Whether this process is the one that writes files."""
    return True
