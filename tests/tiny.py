"""A model of the presets' kind that is compiled in a moment."""

from pathlib import Path

import numpy as np

from keras_ae.presets import Preset

TINY = Preset("tiny", "linear-residual", (8,), (1, 1), clipnorm=0.03)
TILE = 256
VAL_MSE = [0.0001, 0.001, 0.01, 0.1]


def make(folder: Path, images: list[np.ndarray], *, lively: bool = False) -> None:
    """Writes what a Trainer does, `Format-Serving` and `model.keras`, of a model that starts from
    PCA, or with a residual path that adds to it."""
    from keras_ae.models import linear
    from keras_ae.models.autoencoder import ConvAutoencoder
    from keras_ae.saved_model.export import export

    model = ConvAutoencoder(TINY, images[0].shape[2])
    pca = linear.fit(linear.patch_moments(images, 8), 8)
    linear.set_linear_path(model, pca)
    if lively:
        layer = model.decoder.get_layer("decode_out")
        rng = np.random.default_rng(0)
        layer.set_weights([rng.normal(0, 0.02, weight.shape) for weight in layer.get_weights()])
    export(model, folder / "Format-Serving", floor=pca, val_mse=VAL_MSE, tile=TILE)
    model.save(folder / "model.keras")
