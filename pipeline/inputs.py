"""What Trainer and Tuner read: the images, and their patch moments from the Transform graph."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from keras_ae import contract as c
from keras_ae.datasets.decoding import decode_stored
from pipeline.preprocessing import PATCH_MOMENTS


def read_images(patterns: list[str], channels: int) -> list[np.ndarray]:
    """Decodes the images of GZIP TFRecords, in the order of their sources.

    Returns:
        uint8 arrays [H, W, channels].
    """
    spec = {
        name: tf.io.FixedLenFeature((), tf.string) for name in (c.IMAGE_ENCODED, c.IMAGE_SOURCE)
    }

    def parse(record: Any) -> tuple[Any, Any]:
        example = tf.io.parse_single_example(record, spec)
        return example[c.IMAGE_SOURCE], decode_stored(example[c.IMAGE_ENCODED], channels)

    files = tf.io.gfile.glob(list(patterns))
    records = tf.data.TFRecordDataset(files, compression_type="GZIP")
    images = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE).as_numpy_iterator()
    return [image for _, image in sorted(images, key=lambda item: item[0])]


def read_moments(transform_graph: str) -> np.ndarray:
    """Evaluates the patch moments once from the Transform graph, float64 [1 + p, 1 + p]."""
    transform = tft.TFTransformOutput(transform_graph)
    blank = tf.io.encode_png(tf.zeros((1, 1, 1), tf.uint8))
    features = transform.transform_raw_features({c.IMAGE_ENCODED: blank[None, None]})
    flat = features[PATCH_MOMENTS][0].numpy().astype(np.float64)
    side = int(len(flat) ** 0.5)
    return flat.reshape(side, side)
