import numpy as np
import tensorflow as tf

from keras_ae import contract as c
from keras_ae.datasets.decoding import TOO_MANY, decode_each


def test_images_beyond_the_pixels_of_a_request_are_refused_and_hold_no_memory(monkeypatch, encode):
    monkeypatch.setattr(c, "MAX_REQUEST_PIXELS", 250)
    images = [np.full((10, 10, 3), i, np.uint8) for i in range(4)]
    encoded = [encode(image, "PNG") for image in images]
    pixels, sizes, status = tf.function(lambda data: _stacked(*decode_each(data, 3)))(
        tf.constant(encoded)
    )
    assert status.numpy().tolist() == [b"", b"", TOO_MANY.encode(), TOO_MANY.encode()]
    assert sizes.numpy()[:, 0].tolist() == [10, 10, 0, 0]
    assert pixels.numpy().tolist() == [0] * 300 + [1] * 300


def _stacked(pixels, sizes, status):
    flat = [tf.reshape(pixels.read(i), [-1]) for i in range(4)]
    return tf.concat(flat, 0), sizes, status
