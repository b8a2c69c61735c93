"""The compiled inner loop on TensorFlow."""

import itertools
from collections.abc import Callable
from typing import Any

from keras_ae.tiles import ahead, to_float

# A call costs a millisecond of its own; more steps in one were faster still, but slow to compile.
STEPS_IN_A_CALL = 2


def compile_epochs(
    model, optimizer, average: list, decay: Callable, tiles
) -> tuple[Callable[[int], float], str]:
    """Compiles the training step.

    TensorFlow places the work on a GPU where it sees one.

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

    def step(batch: Any) -> Any:
        images = to_float(batch)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.math.squared_difference(model(images, training=True), images))
        optimizer.apply(tape.gradient(loss, variables), variables)
        weight = 1.0 - decay(tf.cast(optimizer.iterations.value, tf.float32))
        for mean, variable in zip(average, variables):
            mean.assign_add(weight * (variable.value - mean.value))
        return loss * tf.cast(tf.shape(batch)[0], tf.float32)

    @tf.function(jit_compile=model.preset.jit_compile)
    def steps(batches: list[Any]) -> Any:
        return tf.add_n([step(batch) for batch in batches])

    def run(epoch: int) -> float:
        total = tf.zeros(())
        batches = ahead(tiles.epoch(epoch))
        while some := list(itertools.islice(batches, STEPS_IN_A_CALL)):
            total += steps([tf.constant(batch) for batch in some])
        return float(total) / len(tiles)

    return run, tiles.placement
