import math

import keras
import numpy as np
import pytest

from keras_ae import metrics
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.models.layers import to_float, to_uint8
from keras_ae.training import validation


@pytest.mark.parametrize("buffer_pixels", [1, 64 * 64 * 2, 10**6])
def test_errors_do_not_depend_on_the_batch_of_an_image(photographs, buffer_pixels, monkeypatch):
    monkeypatch.setattr(validation, "BUFFER_PIXELS", buffer_pixels)
    model = ConvAutoencoder("small", seed=0)
    sizes = [(64, 64), (20, 33), (64, 64), (100, 70), (64, 64)]
    images = [photographs[i % 3][i : i + h, i : i + w] for i, (h, w) in enumerate(sizes)]
    alone = []
    for image in images:
        batch = keras.ops.convert_to_tensor(image[None])
        alone.append(float(metrics.mse(batch, to_uint8(model(to_float(batch))))[0]))
    errors = validation.mse_per_image(model, iter(images))
    np.testing.assert_allclose(sorted(errors), sorted(alone), rtol=1e-3)
    mean = np.mean([-10 * math.log10(error) for error in alone])
    assert validation.mean_psnr(model, images) == pytest.approx(mean, abs=1e-3)
