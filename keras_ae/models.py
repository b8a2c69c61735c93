"""The convolutional autoencoder."""

from typing import Any

import keras
from keras import layers, ops

from keras_ae import presets
from keras_ae.errors import ConfigurationError
from keras_ae.layers import DepthToSpace, SpaceToDepth, pad_to_multiple, residual_block


@keras.saving.register_keras_serializable("keras_ae")
class ConvAutoencoder(keras.Model):
    """Convolutional autoencoder on pixels scaled to 0..1.

    Args:
        preset: a name in `presets.PRESETS`.
        channels: 1 (grey) or 3 (RGB).
        stride: pixels per latent position along each side, a power of two.
        latent_channels: numbers per latent position.

    Raises:
        ConfigurationError: for any other value.

    Example:

    >>> import numpy as np
    >>> model = ConvAutoencoder("baseline", channels=1)
    >>> tuple(model.encode(np.zeros((1, 20, 30, 1), "float32")).shape)
    (1, 3, 4, 8)
    """

    def __init__(
        self,
        preset: str = presets.DEFAULT,
        channels: int = 3,
        stride: int = presets.STRIDE,
        latent_channels: int = presets.LATENT_CHANNELS,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        spec = presets.get(preset)
        if channels not in (1, 3):
            raise ConfigurationError(f"channels must be 1 or 3; got {channels}")
        if stride < 2 or stride & (stride - 1):
            raise ConfigurationError(f"stride must be a power of two from 2; got {stride}")
        if not 1 <= latent_channels <= stride * stride * channels:
            raise ConfigurationError(
                f"latent channels must be 1 to {stride * stride * channels}, the numbers in a "
                f"{stride}x{stride} patch; got {latent_channels}"
            )
        self.preset, self.channels = preset, channels
        self.stride, self.latent_channels = stride, latent_channels
        build = {"plain": _plain, "linear-residual": _linear_residual}[spec.architecture]
        self.encoder, self.decoder = build(spec, channels, stride, latent_channels)
        self.built = True

    def encode(self, images):
        """float32 [N, H, W, C] in 0..1 -> latents float32 [N, ceil(H/s), ceil(W/s), c]."""
        return self.encoder(pad_to_multiple(ops.convert_to_tensor(images), self.stride))

    def decode(self, latents):
        """Latents float32 [N, h, w, c] -> images float32 [N, h*s, w*s, C], not clipped."""
        return self.decoder(latents)

    def call(self, images, training=None):
        """float32 [N, H, W, C] in 0..1, H and W at least 1 -> the same shape, not clipped."""
        images = ops.convert_to_tensor(images)
        height, width = ops.shape(images)[1:3]
        return self.decode(self.encode(images))[:, :height, :width, :]

    def get_config(self):
        return {
            **super().get_config(),
            "preset": self.preset,
            "channels": self.channels,
            "stride": self.stride,
            "latent_channels": self.latent_channels,
        }


def _plain(spec: presets.Preset, channels: int, stride: int, latent_channels: int):
    """Convolution, ReLU and max-pooling per octave, and the mirror with upsampling."""
    octaves = stride.bit_length() - 1
    widths = [spec.widths[min(i, len(spec.widths) - 1)] for i in range(octaves - 1)]

    def convolution(filters, activation="relu"):
        return layers.Conv2D(filters, 3, padding="same", activation=activation)

    x = image = keras.Input((None, None, channels), name="image")
    for width in (*widths, latent_channels):
        x = layers.MaxPooling2D(2)(convolution(width)(x))
    encoder = keras.Model(image, x, name="encoder")

    x = latent = keras.Input((None, None, latent_channels), name="latent")
    for width in (latent_channels, *reversed(widths)):
        x = layers.UpSampling2D(2)(convolution(width)(x))
    decoder = keras.Model(latent, convolution(channels, "sigmoid")(x), name="decoder")
    return encoder, decoder


def _linear_residual(spec: presets.Preset, channels: int, stride: int, latent_channels: int):
    """A linear path beside a residual path whose last layers start at zero."""
    width, patch = spec.widths[0], stride * stride * channels

    def path(x, filters, name):
        y = layers.Conv2D(width, 1, name=f"{name}_in")(x)
        for i in range(spec.blocks):
            y = residual_block(y, width, f"{name}_{i}")
        y = layers.Conv2D(filters, 1, kernel_initializer="zeros", name=f"{name}_out")(y)
        linear = layers.Conv2D(filters, 1, name=f"linear_{name}")(x)
        return layers.Add(name=f"{name}_sum")([linear, y])

    image = keras.Input((None, None, channels), name="image")
    encoder = keras.Model(
        image, path(SpaceToDepth(stride)(image), latent_channels, "encode"), name="encoder"
    )
    latent = keras.Input((None, None, latent_channels), name="latent")
    decoder = keras.Model(
        latent, DepthToSpace(stride)(path(latent, patch, "decode")), name="decoder"
    )
    return encoder, decoder
