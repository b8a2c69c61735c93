"""The linear floors of a run, and what they make of every image."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from keras_ae import metrics, storage
from keras_ae.errors import DataError
from keras_ae.models import linear
from keras_ae.models.layers import to_float, to_uint8
from keras_ae.saved_model.tiled_metrics import patch_mse
from keras_ae.saved_model.tiling import SERVING_TILE
from keras_ae.scores import FLOORS
from keras_ae.scoring.reading import pixels, read


class Floors(NamedTuple):
    """The best linear autoencoders of a run.

    Attributes:
        patch: PCA of patches.
        stride: side of a patch in pixels.
        whole: PCA of whole images, or None where it is not defined.
    """

    patch: linear.PatchPCA
    stride: int
    whole: linear.GlobalPCA | None = None


def psnr_of(floors: Floors, channels: int) -> Callable[[Any], np.ndarray]:
    """A function that gives the PSNR in dB of each floor's reconstructions, rounded to 8 bits.

    It maps uint8 [N, H, W, channels] to float32 [N, 2] in the order of `keras_ae.scores.FLOORS`,
    NaN for the global floor of images that are not of its size.
    """
    rounded = functools.partial(linear.reconstruct_rounded, pca=floors.patch, stride=floors.stride)
    spec = tf.TensorSpec((None, None, None, channels), tf.uint8)

    @tf.function(input_signature=[spec], autograph=False)
    def of_patches(images: Any) -> Any:
        mse = patch_mse(images, rounded, tile=SERVING_TILE, stride=floors.stride)
        return metrics.psnr_from_mse(mse)

    def psnr(images: Any) -> np.ndarray:
        values = np.full((len(images), len(FLOORS)), np.nan, np.float32)
        values[:, FLOORS.index("patch_pca")] = of_patches(images)
        if floors.whole and tuple(images.shape[1:]) == floors.whole.shape:
            values[:, FLOORS.index("global_pca")] = _psnr(images, floors.whole)
        return values

    return psnr


def fit_global(
    pattern: str, stride: int, latent_channels: int, channels: int
) -> tuple[linear.GlobalPCA | None, str | None]:
    """Fits PCA to the whole training images, streamed.

    Args:
        pattern: of their files, GZIP TFRecords of tf.Examples.
        stride, latent_channels: of the models that it is compared with.
        channels: 1 or 3.

    Returns:
        The global floor, or None and why there is none: see `keras_ae.models.linear.fit_global`.
    """
    try:
        return linear.fit_global(_images(pattern, channels), stride, latent_channels), None
    except DataError as reason:
        return None, str(reason)


def _images(pattern: str, channels: int) -> Iterator[np.ndarray]:
    """uint8 [H, W, channels] each."""
    for file in storage.glob(pattern):
        for batch in read(file):
            yield from pixels(batch, channels).numpy()


def _psnr(images: Any, floor: linear.GlobalPCA) -> np.ndarray:
    reconstructions = to_uint8(linear.reconstruct_global(to_float(images), floor))
    psnr = metrics.psnr_from_mse(metrics.mse(images, reconstructions))
    return np.asarray(ops.convert_to_numpy(psnr))
