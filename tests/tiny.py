"""A small model with the architecture of the presets, which is compiled quickly."""

from pathlib import Path

import numpy as np

from keras_ae.presets import Preset

TINY = Preset("tiny", "linear-residual", (8,), (1, 1), clipnorm=0.03)
TILE = 256
VAL_MSE = [0.0001, 0.001, 0.01, 0.1]


def write_model(folder: Path, images: list[np.ndarray], *, residual: bool = False) -> None:
    """Writes the files of a Trainer's Model artifact, `Format-Serving` and `model.keras`.

    Args:
        folder: the artifact's folder.
        images: uint8 arrays [H, W, C] whose PCA the linear path is set to.
        residual: give the residual path random weights; otherwise its output is zero.
    """
    from keras_ae.models import linear
    from keras_ae.models.autoencoder import ConvAutoencoder
    from keras_ae.saved_model.export import export

    model = ConvAutoencoder(TINY, images[0].shape[2])
    pca = linear.fit(linear.patch_moments(images, 8), 8)
    linear.set_linear_path(model, pca)
    if residual:
        layer = model.decoder.get_layer("decode_out")
        rng = np.random.default_rng(0)
        layer.set_weights([rng.normal(0, 0.02, weight.shape) for weight in layer.get_weights()])
    export(model, folder / "Format-Serving", floor=pca, val_mse=VAL_MSE, tile=TILE)
    model.save(folder / "model.keras")
