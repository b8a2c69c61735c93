"""The compiled inner loop on TensorFlow."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from keras_ae.tiles import to_float


def compile_epoch(
    model, optimizer, average: list, decay: Callable, jit_compile: bool
) -> Callable[[Iterable[np.ndarray]], float]:
    """Compiles one training step and returns a function that runs it over an epoch.

    TensorFlow places the work on a GPU where it sees one.

    Args:
        model: a built Keras model on pixels 0..1.
        optimizer: a built Keras optimizer for `model.trainable_variables`.
        average: variables like `model.trainable_variables`, their moving average.
        decay: maps the number of the step, float32, to the average's decay.
        jit_compile: whether XLA compiles the step.

    Returns:
        A function of uint8 batches [n, h, w, C] that trains on each, updates the average and gives
        the mean loss over the tiles.
    """
    import tensorflow as tf

    variables = model.trainable_variables

    @tf.function(jit_compile=jit_compile)
    def step(batch: Any, total: Any) -> Any:
        images = to_float(batch)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.math.squared_difference(model(images, training=True), images))
        optimizer.apply(tape.gradient(loss, variables), variables)
        weight = 1.0 - decay(tf.cast(optimizer.iterations.value, tf.float32))
        for mean, variable in zip(average, variables):
            mean.assign_add(weight * (variable.value - mean.value))
        return total + loss * tf.cast(tf.shape(batch)[0], tf.float32)

    def run(batches: Iterable[np.ndarray]) -> float:
        total, count = tf.zeros(()), 0
        for batch in batches:
            total = step(tf.constant(batch), total)
            count += len(batch)
        return float(total) / count

    return run
