"""Loads models from files in Keras's own format."""

from pathlib import Path

import keras

from keras_ae.errors import DataError
from keras_ae.models.autoencoder import ConvAutoencoder


def load_model(path: str | Path) -> ConvAutoencoder:
    """Loads an autoencoder from a `.keras` file, as the pipeline and `model.save` write it.

    Raises:
        DataError: if the file contains another kind of model.
        ValueError: from Keras, if it is not a `.keras` file.

    >>> ConvAutoencoder("small", channels=1).save("model.keras")
    >>> load_model("model.keras").channels
    1
    """
    model = keras.saving.load_model(path)
    if not isinstance(model, ConvAutoencoder):
        raise DataError(
            f"{path} must contain a ConvAutoencoder; it contains a {type(model).__name__}"
        )
    return model
