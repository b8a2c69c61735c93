"""The linear floors of a run, and their PSNR on images."""

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
from keras_ae.presets import SERVING_TILE
from keras_ae.saved_model.tiled_metrics import patch_mse
from keras_ae.scores import FLOORS
from keras_ae.scoring.reading import decode_batch, read_batches


class Floors(NamedTuple):
    """The linear autoencoders that a run is compared with.

    `stride` is the side of a patch in pixels; `whole` is None if the global floor is not defined.
    """

    patch: linear.PatchPCA
    stride: int
    whole: linear.GlobalPCA | None = None


def floor_psnr(floors: Floors, channels: int) -> Callable[[Any], np.ndarray]:
    """Returns a function that computes the PSNR in dB of the reconstructions of each floor.

    It maps uint8 [N, H, W, channels] to float32 [N, 2], in the order of `keras_ae.scores.FLOORS`.
    The global floor is NaN for images that do not have its size. Reconstructions are rounded to 8
    bits.
    """
    reconstruct = functools.partial(
        linear.reconstruct_rounded, pca=floors.patch, stride=floors.stride
    )
    spec = tf.TensorSpec((None, None, None, channels), tf.uint8)

    def patch_psnr(images: Any) -> Any:
        mse = patch_mse(images, reconstruct, tile=SERVING_TILE, stride=floors.stride)
        return metrics.psnr_from_mse(mse)

    compiled = tf.function(patch_psnr, input_signature=[spec], autograph=False)

    def psnr(images: Any) -> np.ndarray:
        values = np.full((len(images), len(FLOORS)), np.nan, np.float32)
        values[:, FLOORS.index("patch_pca")] = compiled(images)
        if floors.whole and tuple(images.shape[1:]) == floors.whole.shape:
            values[:, FLOORS.index("global_pca")] = _global_psnr(images, floors.whole)
        return values

    return psnr


def fit_global(
    pattern: str, stride: int, latent_channels: int, channels: int
) -> tuple[linear.GlobalPCA | None, str | None]:
    """Fits the global floor to the images of GZIP TFRecords of tf.Examples, which are streamed.

    Returns it, or None and the reason; see `keras_ae.models.linear.fit_global`.
    """
    try:
        return linear.fit_global(_images(pattern, channels), stride, latent_channels), None
    except DataError as reason:
        return None, str(reason)


def _images(pattern: str, channels: int) -> Iterator[np.ndarray]:
    for file in storage.glob(pattern):
        for batch in read_batches(file):
            yield from decode_batch(batch, channels).numpy()


def _global_psnr(images: Any, floor: linear.GlobalPCA) -> np.ndarray:
    reconstructions = to_uint8(linear.reconstruct_global(to_float(images), floor))
    psnr = metrics.psnr_from_mse(metrics.mse(images, reconstructions))
    return np.asarray(ops.convert_to_numpy(psnr))
