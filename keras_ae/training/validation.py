"""The error of a model on whole images, of any sizes and however many."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from keras import ops

from keras_ae import metrics
from keras_ae.errors import DataError
from keras_ae.models.layers import to_float, to_uint8
from keras_ae.types import Tensor

TOGETHER = 1_000_000
"""Pixels of the images that are held and scored together, or one image if it is larger."""


def mse_of_each(model: Callable[[Tensor], Tensor], images: Iterable[np.ndarray]) -> list[float]:
    """The error of each image's reconstruction, rounded to 8 bits.

    Images of one size go through the model together; only some are held at a time.

    Args:
        model: the autoencoder, or what else maps float32 [N, H, W, C] in 0..1 to the like.
        images: uint8 arrays [H, W, C].

    Returns:
        What `keras_ae.metrics.mse` gives, in any order.

    >>> import numpy as np
    >>> mse_of_each(lambda images: images, [np.zeros((20, 30, 3), np.uint8)])
    [0.0]
    """
    errors: list[float] = []
    for images_of_one_size in _batches(images):
        batch = ops.convert_to_tensor(images_of_one_size)
        mse = metrics.mse(batch, to_uint8(model(to_float(batch))))
        errors.extend(ops.convert_to_numpy(mse).tolist())
    return errors


def mean_psnr(model: Callable[[Tensor], Tensor], images: Iterable[np.ndarray]) -> float:
    """Mean PSNR in dB over whole images, as `mse_of_each` and `keras_ae.metrics.psnr_from_mse`.

    Raises:
        DataError: if there is no image.

    >>> import numpy as np
    >>> images = [np.zeros((20, 30, 3), np.uint8), np.zeros((16, 16, 3), np.uint8)]
    >>> mean_psnr(lambda images: images, images)  # or a model
    100.0
    """
    mse = np.asarray(mse_of_each(model, images), np.float32)
    if not len(mse):
        raise DataError("quality is measured on at least one image; got none")
    return float(np.mean(ops.convert_to_numpy(metrics.psnr_from_mse(mse)), dtype=np.float64))


def _batches(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    waiting: dict[tuple[int, ...], list[np.ndarray]] = {}
    pixels = 0
    for image in images:
        count = image.shape[0] * image.shape[1]
        if pixels + count > TOGETHER:
            yield from map(np.stack, waiting.values())
            waiting, pixels = {}, 0
        waiting.setdefault(image.shape, []).append(image)
        pixels += count
    yield from map(np.stack, waiting.values())
