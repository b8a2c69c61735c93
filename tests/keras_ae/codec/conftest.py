import numpy as np
import pytest

from keras_ae.codec.header import Header


def header_of(shape, stride=8, scale=0) -> Header:
    """A header of an image with a latent of a shape."""
    height, width, channels = shape
    steps = tuple(2048 + scale + 5 * channel % 500 for channel in range(channels))
    return Header(b"\0a model", width * stride, height * stride - 1, 3, stride, steps)


def smooth(shape, seed=0, step=3, bias=0) -> np.ndarray:
    """Values that wander, int32: a random walk in both directions, of whole numbers only."""
    numbers = np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(seed * 1_000_003)
    numbers = (numbers * np.uint64(6364136223846793005)) >> np.uint64(40)
    numbers = (numbers * np.uint64(2654435761)) >> np.uint64(7)
    steps = (numbers % np.uint64(2 * step + 1)).astype(np.int64).reshape(shape) - step
    walk = steps.cumsum(0) + steps.cumsum(1) + steps.cumsum(2)[..., ::-1] // 2
    return (walk // 2 + bias).astype(np.int32)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """Latents, float32 [19, 24, 8], that are like those of a photograph."""
    values = smooth((19, 24, 8), step=5) * np.array([4, 2, 1, 1, 0.5, 0.5, 0.3, 0.1])
    return values.astype(np.float32)
