"""The autoencoder models. Importing this package registers their classes with Keras."""

from importlib import import_module

from keras_ae.imports import BACKENDS, from_extra

with from_extra(BACKENDS, __name__):
    # Not an import statement, because the fingerprints of the pipeline's code would follow it.
    ConvAutoencoder = import_module("keras_ae.models.autoencoder").ConvAutoencoder
