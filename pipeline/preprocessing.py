"""Transform: one pass over the training images for the patch mean and covariance."""

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from keras_ae import contract as c
from keras_ae.datasets.images.decoding import decode_stored

PATCH_MOMENTS = "patch_moments"


def preprocessing_fn(inputs: dict[str, Any], custom_config: dict[str, Any]) -> dict[str, Any]:
    """Sums the products of the pixels of each patch, as `linear.patch_moments` does.

    Args:
        inputs: the features of an image; `image/encoded` is string [N, 1].
        custom_config: `channels` and `stride`.

    Returns:
        The sums of the whole split, int64 [N, (1 + p) * (1 + p)], the same in each row, to be
        read once from the graph.
    """
    channels, stride = custom_config["channels"], custom_config["stride"]
    side = 1 + stride * stride * channels

    def moments(data: Any) -> Any:
        image = decode_stored(data, channels)
        h, w = tf.shape(image)[0] // stride, tf.shape(image)[1] // stride
        image = image[: h * stride, : w * stride]
        patches = tf.reshape(image, (h, stride, w, stride, channels))
        patches = tf.reshape(tf.transpose(patches, (0, 2, 1, 3, 4)), (h * w, side - 1))
        rows = tf.pad(tf.cast(patches, tf.float64), ((0, 0), (1, 0)), constant_values=1)
        return tf.reshape(tf.matmul(rows, rows, transpose_a=True), (side * side,))

    encoded = inputs[c.IMAGE_ENCODED][:, 0]
    each = tf.map_fn(moments, encoded, fn_output_signature=tf.float64, parallel_iterations=1)
    each = tf.ensure_shape(each, (None, side * side))
    total = tft.sum(each, reduce_instance_dims=False)
    # Integers: what tf.Transform can give that is exact.
    total = tf.cast(total, tf.int64)[None]
    return {PATCH_MOMENTS: tf.tile(total, (tf.shape(encoded)[0], 1))}
