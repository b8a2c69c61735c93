"""Untrained models for benchmarks, and their training with Keras's `fit`."""

from collections.abc import Callable, Iterable

import numpy as np

from keras_ae import presets
from keras_ae.datasets.tiles import Tiles
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder


def fit_pca(
    images: Iterable[np.ndarray],
    stride: int = presets.STRIDE,
    latent_channels: int = presets.LATENT_CHANNELS,
) -> linear.PatchPCA:
    """The patch PCA of uint8 images [H, W, C] at a latent size."""
    return linear.fit(linear.patch_moments(images, stride), latent_channels)


def initialize(preset: str, pca: linear.PatchPCA) -> ConvAutoencoder:
    """A model in the initial state of the pipeline's training; speed does not depend on weights."""
    model = ConvAutoencoder(preset, seed=0)
    if model.preset.architecture == "linear-residual":
        linear.set_linear_path(model, pca)
    return model


def keras_fit(
    model: ConvAutoencoder, tiles: Tiles, batch_size: int = 32
) -> Callable[[int], object]:
    """A function that trains for a number of epochs by `fit`, with Adam and MSE.

    Args:
        model: the model to train.
        tiles: those of the first epoch are kept in memory and used in every epoch, shuffled.
        batch_size: number of tiles in a batch; the default is that of Keras.
    """
    images = np.concatenate(list(tiles.epoch(0))) / np.float32(255)
    model.compile(optimizer="adam", loss="mse")
    return lambda epochs: model.fit(images, images, batch_size=batch_size, epochs=epochs, verbose=0)
