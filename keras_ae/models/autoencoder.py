"""The convolutional autoencoder."""

import dataclasses
import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

from keras_ae import presets
from keras_ae.errors import ConfigurationError
from keras_ae.models.layers import DepthToSpace, SpaceToDepth, pad_to_multiple, residual_block
from keras_ae.models.onnx import register_erfc
from keras_ae.types import Tensor

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
"""Keras's dtype policy for the blocks of each precision."""


@keras.saving.register_keras_serializable("keras_ae")
class Part(keras.Model):
    """An encoder or a decoder: a functional model of one input and one output."""

    def export(self, filepath: str | Path, format: str = "tf_saved_model", **kwargs: Any) -> None:
        """Writes the part for another runtime, as `keras.Model.export` says."""
        if format == "onnx":
            register_erfc()
        super().export(filepath, format, **kwargs)


@keras.saving.register_keras_serializable("keras_ae")
class ConvAutoencoder(keras.Model):
    """Convolutional autoencoder on pixels scaled to 0..1.

    Args:
        preset: a name in `presets.PRESETS`, a `Preset`, or the fields of one.
        channels: 1 (grey) or 3 (RGB).
        stride: pixels per latent position along each side, a power of two.
        latent_channels: numbers per latent position.
        precision: "float32", or "bfloat16" for the products of the residual blocks; weights, the
            linear path and what comes out are float32 either way.
        seed: of the initial weights, which on one backend follow from it and the other arguments
            alone; None for what Keras draws from Python's global generator.

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
        preset: str | presets.Preset | Mapping[str, Any] = presets.DEFAULT,
        channels: int = 3,
        stride: int = presets.STRIDE,
        latent_channels: int = presets.LATENT_CHANNELS,
        precision: str = "float32",
        seed: int | None = None,
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
        if precision not in PRECISIONS:
            raise ConfigurationError(
                f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}"
            )
        self.preset, self.channels, self.precision = spec, channels, precision
        self.stride, self.latent_channels = stride, latent_channels
        build = {"plain": _plain, "linear-residual": _linear_residual}[spec.architecture]
        self.encoder, self.decoder = build(
            spec, channels, stride, latent_channels, PRECISIONS[precision], _initializers(seed)
        )
        # Keras exports a model that was called, in the shapes of that call: so can every one be.
        image = keras.Input((None, None, channels), name="image")
        self.decoder(self.encoder(image))
        self(image)

    def encode(self, images: Tensor) -> Tensor:
        """float32 [N, H, W, C] in 0..1 -> latents float32 [N, ceil(H/s), ceil(W/s), c].

        >>> import numpy as np
        >>> model = ConvAutoencoder("baseline", stride=4, latent_channels=2)
        >>> tuple(model.encode(np.zeros((1, 20, 30, 3), "float32")).shape)
        (1, 5, 8, 2)
        """
        return self.encoder(pad_to_multiple(ops.convert_to_tensor(images), self.stride))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents float32 [N, h, w, c] -> images float32 [N, h*s, w*s, C], not clipped.

        >>> import numpy as np
        >>> model = ConvAutoencoder("baseline", stride=4, latent_channels=2)
        >>> tuple(model.decode(np.zeros((1, 5, 8, 2), "float32")).shape)
        (1, 20, 32, 3)
        """
        return self.decoder(latents)

    def call(self, images: Tensor, training: bool | None = None) -> Tensor:
        """float32 [N, H, W, C] in 0..1, H and W at least 1 -> the same shape, not clipped.

        >>> import numpy as np
        >>> model = ConvAutoencoder("baseline")
        >>> tuple(model(np.zeros((1, 20, 30, 3), "float32")).shape)
        (1, 20, 30, 3)
        """
        images = ops.convert_to_tensor(images)
        height, width = ops.shape(images)[1:3]
        return self.decode(self.encode(images))[:, :height, :width, :]

    def export(self, filepath: str | Path, format: str = "tf_saved_model", **kwargs: Any) -> None:
        """Writes the model for another runtime, as `keras.Model.export` says: float32 images
        [N, H, W, C] in 0..1 in, the same shape out.

        `keras_ae.export` writes what a server answers encoded images with, with scores.

        >>> model = ConvAutoencoder("baseline")
        >>> model.export("model", verbose=False)
        >>> import tensorflow as tf
        >>> exported = tf.saved_model.load("model")
        >>> tuple(exported.serve(tf.zeros((1, 20, 30, 3))).shape)
        (1, 20, 30, 3)
        """
        if format == "onnx":
            register_erfc()
        super().export(filepath, format, **kwargs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "preset": dataclasses.asdict(self.preset),
            "channels": self.channels,
            "stride": self.stride,
            "latent_channels": self.latent_channels,
            "precision": self.precision,
        }

    @property
    def reach(self) -> tuple[int, int]:
        """How many latent positions to each side the encoder looks at for a latent number, and the
        decoder for a pixel: what lies beyond has no influence.

        >>> ConvAutoencoder("small").reach
        (1, 3)
        """
        encoder = _reach_in_pixels(self.encoder, 1)
        decoder = _reach_in_pixels(self.decoder, self.stride)
        return -(-encoder // self.stride), -(-decoder // self.stride)

    @property
    def flops_per_pixel(self) -> float:
        """Floating-point operations of the convolutions for a pixel of the image, there and back;
        a multiplication and an addition are two.

        >>> ConvAutoencoder("medium").flops_per_pixel
        9856.0
        """
        area, total = 1.0, 0.0
        for part in (self.encoder, self.decoder):
            for layer in part.layers:
                if isinstance(layer, layers.MaxPooling2D):
                    area /= 4
                elif isinstance(layer, layers.UpSampling2D):
                    area *= 4
                elif isinstance(layer, SpaceToDepth):
                    area /= layer.stride**2
                elif isinstance(layer, DepthToSpace):
                    area *= layer.stride**2
                elif isinstance(layer, layers.Conv2D):
                    total += 2 * area * math.prod(layer.kernel.shape)
        return total


def _reach_in_pixels(part: keras.Model, pixels: int) -> int:
    """Pixels to each side that the convolutions look at, one after the other.

    Args:
        part: encoder or decoder; convolutions side by side count as if they followed each other.
        pixels: side of what a position of its input stands for.
    """
    total = 0
    for layer in part.layers:
        if isinstance(layer, layers.MaxPooling2D):
            pixels *= 2
        elif isinstance(layer, layers.UpSampling2D):
            pixels //= 2
        elif isinstance(layer, SpaceToDepth):
            pixels *= layer.stride
        elif isinstance(layer, DepthToSpace):
            pixels //= layer.stride
        elif isinstance(layer, layers.Conv2D):
            total += pixels * (max(layer.kernel_size) // 2)
    return total


def _initializers(seed: int | None) -> Iterator[keras.initializers.Initializer]:
    """One for the kernel of each convolution."""
    # Threads of the libraries draw from Python's global generator at any time, and so would Keras.
    draws = random.Random(seed)
    while True:
        yield keras.initializers.GlorotUniform(seed if seed is None else draws.randint(1, 10**9))


def _plain(
    spec: presets.Preset,
    channels: int,
    stride: int,
    latent_channels: int,
    policy: str,
    initializers: Iterator[keras.initializers.Initializer],
) -> tuple[Part, Part]:
    """Convolution, ReLU and max-pooling per octave, and the mirror with upsampling."""
    octaves = stride.bit_length() - 1
    widths = [spec.widths[min(i, len(spec.widths) - 1)] for i in range(octaves - 1)]

    def convolution(filters: int, activation: str = "relu") -> layers.Conv2D:
        return layers.Conv2D(
            filters,
            3,
            padding="same",
            activation=activation,
            kernel_initializer=next(initializers),
            dtype=policy,
        )

    x = image = keras.Input((None, None, channels), name="image")
    for width in (*widths, latent_channels):
        x = layers.MaxPooling2D(2, dtype=policy)(convolution(width)(x))
    encoder = Part(image, _to_float32(x), name="encoder")

    x = latent = keras.Input((None, None, latent_channels), name="latent")
    for width in (latent_channels, *reversed(widths)):
        x = layers.UpSampling2D(2, dtype=policy)(convolution(width)(x))
    decoder = Part(latent, _to_float32(convolution(channels, "sigmoid")(x)), name="decoder")
    return encoder, decoder


def _linear_residual(
    spec: presets.Preset,
    channels: int,
    stride: int,
    latent_channels: int,
    policy: str,
    initializers: Iterator[keras.initializers.Initializer],
) -> tuple[Part, Part]:
    """A linear path beside a residual path whose last layers start at zero."""
    width, patch = spec.widths[0], stride * stride * channels

    def path(x: keras.KerasTensor, filters: int, blocks: int, name: str) -> keras.KerasTensor:
        y = layers.Conv2D(
            width, 1, kernel_initializer=next(initializers), name=f"{name}_in", dtype=policy
        )(x)
        for i in range(blocks):
            y = residual_block(y, width, f"{name}_{i}", initializers, policy)
        y = _to_float32(y)
        y = layers.Conv2D(filters, 1, kernel_initializer="zeros", name=f"{name}_out")(y)
        linear = layers.Conv2D(
            filters, 1, kernel_initializer=next(initializers), name=f"linear_{name}"
        )(x)
        return layers.Add(name=f"{name}_sum")([linear, y])

    image = keras.Input((None, None, channels), name="image")
    encoder = Part(
        image,
        path(SpaceToDepth(stride)(image), latent_channels, spec.blocks[0], "encode"),
        name="encoder",
    )
    latent = keras.Input((None, None, latent_channels), name="latent")
    decoder = Part(
        latent, DepthToSpace(stride)(path(latent, patch, spec.blocks[1], "decode")), name="decoder"
    )
    return encoder, decoder


def _to_float32(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Identity(dtype="float32")(x)
