"""A small model with the architecture of the presets, which is compiled quickly."""

from pathlib import Path

import numpy as np

from keras_ae.presets import Preset

TINY = Preset("tiny", "linear-residual", (8,), (1, 1), clipnorm=0.03)
TILE = 256
VAL_MSE = [0.0001, 0.001, 0.01, 0.1]


def write_models(folder: Path, images: list[np.ndarray]) -> None:
    """Writes Model artifacts of a Trainer, each with `Format-Serving` and `model.keras`.

    `plain` is the linear path alone; in `residual` the other path has random weights.
    `uncalibrated` is the latter without the errors of val images. The graph is traced only once.

    Args:
        folder: folder of the artifacts.
        images: uint8 arrays [H, W, C] whose PCA the linear path is set to.
    """
    from keras_ae.models import linear
    from keras_ae.models.autoencoder import ConvAutoencoder
    from keras_ae.saved_model.export import Exporter

    model = ConvAutoencoder(TINY, images[0].shape[2])
    pca = linear.fit(linear.patch_moments(images, 8), 8)
    linear.set_linear_path(model, pca)
    exporter = Exporter(model, floor=pca, tile=TILE)

    def write(name: str, val_mse: list[float]) -> None:
        exporter.write(folder / name / "Format-Serving", val_mse)
        model.save(folder / name / "model.keras")

    write("plain", VAL_MSE)
    layer = model.decoder.get_layer("decode_out")
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(0, 0.02, weight.shape) for weight in layer.get_weights()])
    write("residual", VAL_MSE)
    write("uncalibrated", [])
