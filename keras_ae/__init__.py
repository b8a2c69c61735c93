"""Convolutional autoencoders for images: data, training, comparison and export.

>>> import numpy as np
>>> from keras_ae import ConvAutoencoder
>>> model = ConvAutoencoder("small")
>>> tuple(model.encode(np.zeros((1, 64, 96, 3), "float32")).shape)
(1, 8, 12, 8)
"""

import sys
from contextlib import suppress
from importlib import import_module

from keras_ae.imports import lazy_getattr

__version__ = "0.1.0"
__all__ = [
    "ConvAutoencoder",
    "Ladder",
    "Tiles",
    "__version__",
    "export",
    "load_model",
    "open_source",
]
__getattr__ = lazy_getattr(
    __name__,
    {
        "ConvAutoencoder": "keras_ae.models.autoencoder",
        "Ladder": "keras_ae.training.ladder",
        "Tiles": "keras_ae.datasets.tiles",
        "export": "keras_ae.saved_model.export",
        "load_model": "keras_ae.models.autoencoder",
        "open_source": "keras_ae.datasets.sources.open",
    },
)

if sys.modules.get("keras"):
    # So that its `load_model` knows the classes; who imports Keras later imports keras_ae.models.
    # An environment of the client alone may have a Keras that the library cannot use.
    with suppress(ImportError):
        import_module("keras_ae.models")
