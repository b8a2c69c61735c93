"""The inner loop on PyTorch."""

from collections.abc import Callable

from keras import ops

from keras_ae.tiles import ahead, to_float


def compile_epochs(
    model, optimizer, average: list, decay: Callable, tiles
) -> tuple[Callable[[int], float], str]:
    """Makes the training step, which runs eagerly.

    Takes and gives what `keras_ae.backends.tensorflow.compile_epochs` does.
    """
    import torch

    variables = model.trainable_variables

    def run(epoch: int) -> float:
        total = ops.zeros(())
        for batch in ahead(tiles.epoch(epoch)):
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
        return float(total) / len(tiles)

    return run, tiles.placement


def is_chief() -> bool:
    """Whether this process is the one that writes files."""
    return True
