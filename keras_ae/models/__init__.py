"""The autoencoders. To import them registers their classes with Keras."""

from importlib import import_module

from keras_ae.imports import BACKENDS, from_extra

with from_extra(BACKENDS, __name__):
    # Not by an import statement, which the fingerprints of the pipeline's code would follow.
    ConvAutoencoder = import_module("keras_ae.models.autoencoder").ConvAutoencoder
