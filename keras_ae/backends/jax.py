"""The compiled inner loop on JAX."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from keras import ops

from keras_ae.tiles import to_float


def compile_epoch(
    model, optimizer, average: list, decay: Callable, jit_compile: bool
) -> Callable[[Iterable[np.ndarray]], float]:
    """Compiles one training step and returns a function that runs it over an epoch.

    Takes and gives what `keras_ae.backends.tensorflow.compile_epoch` does; JAX always compiles
    with XLA, whatever `jit_compile` says.
    """
    import jax

    variables = model.trainable_variables

    def loss_of(weights: Any, frozen: Any, images: Any) -> Any:
        outputs, _ = model.stateless_call(weights, frozen, images, training=True)
        return ops.mean(ops.square(outputs - images))

    @jax.jit
    def step(weights: Any, state: Any, means: Any, frozen: Any, batch: Any, total: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(weights, frozen, to_float(batch))
        weights, state = optimizer.stateless_apply(state, gradients, weights)
        weight = 1.0 - decay(ops.cast(state[0], "float32"))
        means = [mean + weight * (value - mean) for mean, value in zip(means, weights)]
        return weights, state, means, total + loss * len(batch)

    def run(batches: Iterable[np.ndarray]) -> float:
        held = [variables, optimizer.variables, average]
        values = [[variable.value for variable in group] for group in held]
        frozen = [variable.value for variable in model.non_trainable_variables]
        total, count = ops.zeros(()), 0
        for batch in batches:
            *values, total = step(*values, frozen, batch, total)
            count += len(batch)
        for group, results in zip(held, values):
            for variable, value in zip(group, results):
                variable.assign(value)
        return float(total) / count

    return run
