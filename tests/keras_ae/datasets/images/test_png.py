import numpy as np
import pytest
import tensorflow as tf

from keras_ae.datasets.images.png import encode_png


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4])
def test_any_decoder_returns_the_levels(dtype, channels):
    shape = (5, 7, channels) if channels else (5, 7)
    pixels = np.random.default_rng(channels).integers(0, np.iinfo(dtype).max + 1, shape, dtype)
    decoded = tf.io.decode_png(encode_png(pixels), dtype=tf.as_dtype(dtype)).numpy()
    assert np.array_equal(decoded, pixels.reshape(5, 7, -1))
