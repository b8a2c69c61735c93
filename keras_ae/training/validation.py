"""The error of a model on whole images of any size and number."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from keras import ops

from keras_ae import metrics
from keras_ae.errors import DataError
from keras_ae.models.layers import to_float, to_uint8
from keras_ae.types import Tensor

BUFFER_PIXELS = 1_000_000
"""Maximum number of pixels of the images that are in memory at once; a larger image is alone."""


def mse_per_image(model: Callable[[Tensor], Tensor], images: Iterable[np.ndarray]) -> list[float]:
    """Computes the error of each image's reconstruction, after rounding it to 8 bits.

    Images, uint8 [H, W, C], are read as a stream; those of one size are one batch.

    Args:
        model: the autoencoder, or another function of float32 [N, H, W, C] in 0..1 that returns
            the same shape.

    Returns:
        The values of `keras_ae.metrics.mse`, in any order.

    >>> mse_per_image(lambda images: images, [np.zeros((20, 30, 3), np.uint8)])
    [0.0]
    """
    errors: list[float] = []
    for array in _batches(images):
        batch = ops.convert_to_tensor(array)
        mse = metrics.mse(batch, to_uint8(model(to_float(batch))))
        errors.extend(ops.convert_to_numpy(mse).tolist())
    return errors


def mean_psnr(model: Callable[[Tensor], Tensor], images: Iterable[np.ndarray]) -> float:
    """Returns the mean PSNR in dB over whole images; see `mse_per_image`.

    Raises DataError if there is no image.

    >>> images = [np.zeros((20, 30, 3), np.uint8), np.zeros((16, 16, 3), np.uint8)]
    >>> mean_psnr(lambda images: images, images)  # or a model
    100.0
    """
    mse = np.asarray(mse_per_image(model, images), np.float32)
    if not len(mse):
        raise DataError("mean PSNR needs at least one image; got none")
    return float(np.mean(ops.convert_to_numpy(metrics.psnr_from_mse(mse)), dtype=np.float64))


def _batches(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields batches of images of one size, uint8 [N, H, W, C]."""
    by_shape: dict[tuple[int, ...], list[np.ndarray]] = {}
    buffered_pixels = 0
    for image in images:
        pixels = image.shape[0] * image.shape[1]
        if buffered_pixels + pixels > BUFFER_PIXELS:
            yield from map(np.stack, by_shape.values())
            by_shape, buffered_pixels = {}, 0
        by_shape.setdefault(image.shape, []).append(image)
        buffered_pixels += pixels
    yield from map(np.stack, by_shape.values())
