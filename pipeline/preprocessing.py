"""The preprocessing_fn of Transform, which sums the patch moments of the training images."""

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from keras_ae import contract as c
from keras_ae.datasets.images.decoding import decode_stored

PATCH_MOMENTS = "patch_moments"


def preprocessing_fn(inputs: dict[str, Any], custom_config: dict[str, Any]) -> dict[str, Any]:
    """Sums the products of the pixels of each patch, like `keras_ae.models.linear.patch_moments`.

    They give the mean and the covariance of the patches, from which the linear baseline follows.

    Args:
        inputs: features of N images; `image/encoded` is string [N, 1].
        custom_config: `channels` and `stride` of the model.

    Returns:
        The sums over the whole split, int64 [N, (1 + p) * (1 + p)] with p pixels in a patch; the
        rows are equal, and the Trainer evaluates one of them.
    """
    channels, stride = custom_config["channels"], custom_config["stride"]
    side = 1 + stride * stride * channels

    def add_moments(total: Any, data: Any) -> Any:
        image = decode_stored(data, channels)
        h, w = tf.shape(image)[0] // stride, tf.shape(image)[1] // stride
        image = image[: h * stride, : w * stride]
        patches = tf.reshape(image, (h, stride, w, stride, channels))
        patches = tf.reshape(tf.transpose(patches, (0, 2, 1, 3, 4)), (h * w, side - 1))
        rows = tf.pad(tf.cast(patches, tf.float64), ((0, 0), (1, 0)), constant_values=1)
        return total + tf.reshape(tf.matmul(rows, rows, transpose_a=True), (side * side,))

    encoded = inputs[c.IMAGE_ENCODED][:, 0]
    # One sum for the whole batch: at stride 16, that of a single image takes 5 MB.
    zeros = tf.zeros((side * side,), tf.float64)
    sums = tf.foldl(add_moments, encoded, zeros, parallel_iterations=1)
    total = tft.sum(sums[None], reduce_instance_dims=False)
    # The sums are integers in float64, exact in any order; tf.Transform keeps int64 exact too.
    total = tf.cast(total, tf.int64)[None]
    return {PATCH_MOMENTS: tf.tile(total, (tf.shape(encoded)[0], 1))}
