"""The inner loop on PyTorch."""

from collections.abc import Callable, Iterable

import numpy as np
from keras import ops

from keras_ae.tiles import to_float


def compile_epoch(
    model, optimizer, average: list, decay: Callable, jit_compile: bool
) -> Callable[[Iterable[np.ndarray]], float]:
    """Returns a function that runs one training step for each batch of an epoch.

    Takes and gives what `keras_ae.backends.tensorflow.compile_epoch` does; the step runs eagerly,
    whatever `jit_compile` says.
    """
    import torch

    variables = model.trainable_variables

    def run(batches: Iterable[np.ndarray]) -> float:
        total, count = ops.zeros(()), 0
        for batch in batches:
            images = to_float(ops.convert_to_tensor(batch))
            model.zero_grad()
            loss = ops.mean(ops.square(model(images, training=True) - images))
            loss.backward()
            gradients = [variable.value.grad for variable in variables]
            with torch.no_grad():
                optimizer.apply(gradients, variables)
                weight = 1.0 - decay(ops.cast(optimizer.iterations.value, "float32"))
                for mean, variable in zip(average, variables):
                    mean.assign(mean.value + weight * (variable.value - mean.value))
                total = total + loss.detach() * len(batch)
            count += len(batch)
        return float(total) / count

    return run
