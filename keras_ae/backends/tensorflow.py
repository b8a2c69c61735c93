"""The compiled inner loop on TensorFlow."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from keras_ae.tiles import to_float

# A call costs a millisecond of its own; more steps in one were faster still, but slow to compile.
STEPS_IN_A_CALL = 2


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

    def step(batch: Any) -> Any:
        images = to_float(batch)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.math.squared_difference(model(images, training=True), images))
        optimizer.apply(tape.gradient(loss, variables), variables)
        weight = 1.0 - decay(tf.cast(optimizer.iterations.value, tf.float32))
        for mean, variable in zip(average, variables):
            mean.assign_add(weight * (variable.value - mean.value))
        return loss * tf.cast(tf.shape(batch)[0], tf.float32)

    @tf.function(jit_compile=jit_compile)
    def steps(batches: list[Any]) -> Any:
        return tf.add_n([step(batch) for batch in batches])

    def run(batches: Iterable[np.ndarray]) -> float:
        total, count = tf.zeros(()), 0
        batches = iter(batches)
        while some := list(itertools.islice(batches, STEPS_IN_A_CALL)):
            total += steps([tf.constant(batch) for batch in some])
            count += sum(map(len, some))
        return float(total) / count

    return run
