"""The linear floors of a run, and what they make of every image."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from keras_ae import contract as c
from keras_ae import linear, metrics
from keras_ae.datasets.decoding import decode_stored
from keras_ae.errors import DataError
from keras_ae.quality import error
from keras_ae.scores import FLOORS
from keras_ae.tiles import to_float, to_uint8
from keras_ae.tiling import TILE

BATCH = 512


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
        mse = error(images, rounded, tile=TILE, stride=floors.stride)
        return metrics.psnr_from_mse(mse)

    def psnr(images: Any) -> np.ndarray:
        values = np.full((len(images), len(FLOORS)), np.nan, np.float32)
        values[:, FLOORS.index("patch_pca")] = of_patches(images)
        if floors.whole and tuple(images.shape[1:]) == floors.whole.shape:
            values[:, FLOORS.index("global_pca")] = _psnr(images, floors.whole)
        return values

    return psnr


def score_global_floor(
    patterns: Mapping[str, str], stride: int, latent_channels: int, channels: int
) -> tuple[dict[tuple[str, str], float], str | None]:
    """Fits PCA to the whole training images and scores the images of their size, all streamed.

    Args:
        patterns: of each split, the pattern of its files: GZIP TFRecords of tf.Examples.
        stride, latent_channels: of the models that it is compared with.
        channels: 1 or 3.

    Returns:
        PSNR in dB of the reconstruction rounded to 8 bits, by split and source; and why there is
        none (see `keras_ae.linear.fit_global`), or None.
    """
    try:
        floor = linear.fit_global(_images(patterns[c.TRAIN], channels), stride, latent_channels)
    except DataError as reason:
        return {}, str(reason)
    scores = {}
    for split, pattern in patterns.items():
        for sources, images in _batches(pattern, floor.shape):
            values = _psnr(images, floor)
            scores.update({(split, s.decode()): float(v) for s, v in zip(sources, values)})
    return scores, None


def _images(pattern: str, channels: int) -> Iterator[np.ndarray]:
    """uint8 [H, W, channels] each."""

    def pixels(features: Any) -> Any:
        return decode_stored(features[c.IMAGE_ENCODED], channels)

    images = _features(pattern).map(pixels, num_parallel_calls=tf.data.AUTOTUNE)
    return images.as_numpy_iterator()


def _batches(pattern: str, shape: tuple[int, int, int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The sources [N], bytes, and pixels, uint8 [N, H, W, C], of the images of a shape."""

    def fits(features: Any) -> Any:
        # By what is stored beside it: a large image need not be decoded to be passed over.
        return (features[c.IMAGE_HEIGHT] == shape[0]) & (features[c.IMAGE_WIDTH] == shape[1])

    def pixels(features: Any) -> tuple[Any, Any]:
        image = decode_stored(features[c.IMAGE_ENCODED], shape[2])
        return features[c.IMAGE_SOURCE], tf.ensure_shape(image, shape)

    images = _features(pattern).filter(fits).map(pixels, num_parallel_calls=tf.data.AUTOTUNE)
    return images.batch(BATCH).as_numpy_iterator()


def _features(pattern: str) -> Any:
    spec = {
        c.IMAGE_ENCODED: tf.io.FixedLenFeature((), tf.string),
        c.IMAGE_SOURCE: tf.io.FixedLenFeature((), tf.string),
        c.IMAGE_HEIGHT: tf.io.FixedLenFeature((), tf.int64),
        c.IMAGE_WIDTH: tf.io.FixedLenFeature((), tf.int64),
    }
    records = tf.data.TFRecordDataset(tf.io.gfile.glob(pattern), compression_type="GZIP")
    return records.map(lambda record: tf.io.parse_single_example(record, spec))


def _psnr(images: Any, floor: linear.GlobalPCA) -> np.ndarray:
    reconstructions = to_uint8(linear.reconstruct_global(to_float(images), floor))
    psnr = metrics.psnr_from_mse(metrics.mse(images, reconstructions))
    return np.asarray(ops.convert_to_numpy(psnr))
