"""The convolutional autoencoder, a Keras model."""

import dataclasses
import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops
from keras.initializers import GlorotUniform

from keras_ae import presets
from keras_ae.errors import ConfigurationError, DataError
from keras_ae.models.layers import DepthToSpace, SpaceToDepth, pad_to_multiple
from keras_ae.models.onnx import register_erfc
from keras_ae.types import Tensor

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
"""The Keras dtype policy of the residual blocks for each precision."""


@keras.saving.register_keras_serializable("keras_ae")
class Part(keras.Model):
    """An encoder or a decoder: a functional model with one input and one output."""

    def export(self, filepath: str | Path, format: str = "tf_saved_model", **kwargs: Any) -> None:
        """Writes the part for another runtime; see `keras.Model.export`."""
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
        latent_channels: values per latent position.
        precision: "float32", or "bfloat16" for the matrix products of the residual blocks. Weights,
            linear path and outputs are float32 in both cases.
        seed: seed of the initial weights. On one backend they depend on it and the other arguments
            alone. If it is None, Keras draws them from Python's global generator.

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
        self.preset = presets.get(preset)
        if channels not in (1, 3):
            raise ConfigurationError(f"channels must be 1 or 3; got {channels}")
        if stride < 2 or stride & (stride - 1):
            raise ConfigurationError(f"stride must be a power of two from 2; got {stride}")
        presets.check_latent_channels(latent_channels, stride, channels)
        if precision not in PRECISIONS:
            raise ConfigurationError(
                f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}"
            )
        self.channels, self.precision = channels, precision
        self.stride, self.latent_channels = stride, latent_channels
        build = {"plain": _plain, "linear-residual": _linear_residual}[self.preset.architecture]
        self.encoder, self.decoder = build(self, PRECISIONS[precision], _initializers(seed))
        # Keras exports only a model that was called, with the shapes of that call.
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
        """Writes the model for another runtime; see `keras.Model.export`.

        Input and output are float32 images [N, H, W, C] in 0..1. For a server that takes encoded
        images and returns scores, use `keras_ae.export`.

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
    def receptive_radius(self) -> tuple[int, int]:
        """Radii of the receptive fields of encoder and decoder, in latent positions.

        A latent value depends on no pixel, and a pixel on no latent value, that is farther away.

        >>> ConvAutoencoder("small").receptive_radius
        (1, 3)
        """

        def radius(part: Part) -> int:
            # Parallel convolutions are counted as if they were in sequence: an upper bound.
            convolutions = self._convolutions(part)
            pixels: int = sum(side * (max(layer.kernel_size) // 2) for layer, side in convolutions)
            return -(-pixels // self.stride)

        return radius(self.encoder), radius(self.decoder)

    @property
    def flops_per_pixel(self) -> float:
        """Floating-point operations of the convolutions per pixel of the image.

        Encoder and decoder together; a multiplication and an addition are two operations.

        >>> ConvAutoencoder("medium").flops_per_pixel
        9856.0
        """
        flops: float = sum(
            2 * math.prod(layer.kernel.shape) / side**2
            for part in (self.encoder, self.decoder)
            for layer, side in self._convolutions(part)
        )
        return flops

    def _convolutions(self, part: Part) -> Iterator[tuple[layers.Conv2D, int]]:
        """Yields each convolution, and the side in pixels of a position of its feature map."""
        side = 1 if part is self.encoder else self.stride
        for layer in part.layers:
            if isinstance(layer, layers.MaxPooling2D):
                side *= 2
            elif isinstance(layer, layers.UpSampling2D):
                side //= 2
            elif isinstance(layer, SpaceToDepth):
                side *= layer.stride
            elif isinstance(layer, DepthToSpace):
                side //= layer.stride
            elif isinstance(layer, layers.Conv2D):
                yield layer, side


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


def _initializers(seed: int | None) -> Iterator[GlorotUniform]:
    """Yields an initializer for the kernel of each convolution."""
    # A generator of our own: Keras would draw seeds from Python's global generator, from which
    # threads of other libraries draw at any time.
    generator = random.Random(seed)
    while True:
        yield GlorotUniform(None if seed is None else generator.randint(1, 10**9))


def _plain(
    model: ConvAutoencoder, policy: str, initializers: Iterator[GlorotUniform]
) -> tuple[Part, Part]:
    """Builds convolution, ReLU and max-pooling per octave, and the mirror image with upsampling."""
    octaves, spec = model.stride.bit_length() - 1, model.preset
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

    x = image = keras.Input((None, None, model.channels), name="image")
    for width in (*widths, model.latent_channels):
        x = layers.MaxPooling2D(2, dtype=policy)(convolution(width)(x))
    encoder = Part(image, _to_float32(x), name="encoder")

    x = latent = keras.Input((None, None, model.latent_channels), name="latent")
    for width in (model.latent_channels, *reversed(widths)):
        x = layers.UpSampling2D(2, dtype=policy)(convolution(width)(x))
    x = convolution(model.channels, "sigmoid")(x)
    return encoder, Part(latent, _to_float32(x), name="decoder")


def _linear_residual(
    model: ConvAutoencoder, policy: str, initializers: Iterator[GlorotUniform]
) -> tuple[Part, Part]:
    """Builds a linear path and, in parallel, a residual path whose last layers start at zero."""
    width, stride, blocks = model.preset.widths[0], model.stride, model.preset.blocks

    def convolution(filters: int, size: int, name: str, **options: Any) -> layers.Conv2D:
        kernel = next(initializers)
        return layers.Conv2D(filters, size, kernel_initializer=kernel, name=name, **options)

    def path(x: keras.KerasTensor, filters: int, blocks: int, name: str) -> keras.KerasTensor:
        y = convolution(width, 1, f"{name}_in", dtype=policy)(x)
        spatial = {"padding": "same", "activation": "gelu", "dtype": policy}
        for block in (f"{name}_{i}" for i in range(blocks)):
            change = convolution(width, 3, f"{block}_conv", **spatial)(y)
            change = convolution(width, 1, f"{block}_mix", dtype=policy)(change)
            y = layers.Add(name=f"{block}_add", dtype=policy)([y, change])
        y = _to_float32(y)
        y = layers.Conv2D(filters, 1, kernel_initializer="zeros", name=f"{name}_out")(y)
        linear = convolution(filters, 1, f"linear_{name}")(x)
        return layers.Add(name=f"{name}_sum")([linear, y])

    image = keras.Input((None, None, model.channels), name="image")
    x = path(SpaceToDepth(stride)(image), model.latent_channels, blocks[0], "encode")
    encoder = Part(image, x, name="encoder")
    latent = keras.Input((None, None, model.latent_channels), name="latent")
    x = path(latent, stride * stride * model.channels, blocks[1], "decode")
    return encoder, Part(latent, DepthToSpace(stride)(x), name="decoder")


def _to_float32(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Identity(dtype="float32")(x)
