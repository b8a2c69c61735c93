"""Layers and blocks of the models, and the scaling of pixels. Tensors are channels-last."""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_ae.types import Tensor

_Shape = tuple[int | None, int | None, int | None, int]


def to_float(images: Tensor) -> Tensor:
    """uint8 pixels 0..255 -> float32 pixels 0..1.

    >>> import numpy as np
    >>> np.asarray(to_float(np.uint8([0, 255]))).tolist()
    [0.0, 1.0]
    """
    return ops.cast(images, "float32") / 255.0


def to_uint8(images: Tensor) -> Tensor:
    """float pixels, clipped to 0..1 -> uint8 pixels 0..255, rounded.

    >>> import numpy as np
    >>> np.asarray(to_uint8(np.float32([-0.1, 0.2, 1.5]))).tolist()
    [0, 51, 255]
    """
    return ops.cast(ops.round(ops.clip(images, 0.0, 1.0) * 255.0), "uint8")


def pad_to_multiple(images: Tensor, stride: int) -> Tensor:
    """Repeats the last row and column until height and width are multiples of `stride`.

    Args:
        images: tensor [N, H, W, C] of any dtype, H and W at least 1.
        stride: positive integer.

    Returns:
        Tensor [N, ceil(H / stride) * stride, ceil(W / stride) * stride, C].

    >>> import numpy as np
    >>> tuple(pad_to_multiple(np.zeros((1, 20, 32, 3)), stride=8).shape)
    (1, 24, 32, 3)
    """
    for axis in (1, 2):
        if images.shape[axis] is not None and images.shape[axis] % stride == 0:
            continue
        size = ops.shape(images)[axis]
        padded = (size + stride - 1) // stride * stride
        images = ops.take(images, ops.minimum(ops.arange(padded), size - 1), axis=axis)
    return images


def space_to_depth(images: Tensor, stride: int) -> Tensor:
    """Moves each stride x stride patch into the channels, in (row, column, channel) order.

    Args:
        images: tensor [N, H, W, C]; H and W are multiples of `stride`.

    Returns:
        Tensor [N, H / stride, W / stride, stride * stride * C].

    >>> import numpy as np
    >>> tuple(space_to_depth(np.zeros((1, 24, 32, 3)), stride=8).shape)
    (1, 3, 4, 192)
    """
    _, height, width, channels = ops.shape(images)
    h, w = height // stride, width // stride
    patches = ops.reshape(images, (-1, h, stride, w, stride, channels))
    patches = ops.transpose(patches, (0, 1, 3, 2, 4, 5))
    return ops.reshape(patches, (-1, h, w, stride * stride * channels))


def depth_to_space(patches: Tensor, stride: int) -> Tensor:
    """Inverse of `space_to_depth`: [N, h, w, s * s * C] -> [N, h * s, w * s, C].

    >>> import numpy as np
    >>> tuple(depth_to_space(np.zeros((1, 3, 4, 192)), stride=8).shape)
    (1, 24, 32, 3)
    """
    _, h, w, depth = ops.shape(patches)
    channels = depth // (stride * stride)
    images = ops.reshape(patches, (-1, h, w, stride, stride, channels))
    images = ops.transpose(images, (0, 1, 3, 2, 4, 5))
    return ops.reshape(images, (-1, h * stride, w * stride, channels))


@keras.saving.register_keras_serializable("keras_ae")
class SpaceToDepth(keras.layers.Layer):
    """`space_to_depth` as a layer."""

    def __init__(self, stride: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, inputs: Tensor) -> Tensor:
        return space_to_depth(inputs, self.stride)

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        n, h, w, c = input_shape
        s = self.stride
        return (n, h and h // s, w and w // s, s * s * c)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stride": self.stride}


@keras.saving.register_keras_serializable("keras_ae")
class DepthToSpace(keras.layers.Layer):
    """`depth_to_space` as a layer (sub-pixel shuffle, Shi et al. 2016)."""

    def __init__(self, stride: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, inputs: Tensor) -> Tensor:
        return depth_to_space(inputs, self.stride)

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        n, h, w, c = input_shape
        s = self.stride
        return (n, h and h * s, w and w * s, c // (s * s))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stride": self.stride}


def residual_block(
    x: keras.KerasTensor,
    width: int,
    name: str,
    initializers: Iterator[keras.initializers.Initializer],
    dtype: str = "float32",
) -> keras.KerasTensor:
    """Adds a 3x3 convolution, GELU and a 1x1 convolution to `x` [N, h, w, width].

    It takes two of the initializers, for the two kernels.
    """
    conv = keras.layers.Conv2D(
        width,
        3,
        padding="same",
        activation="gelu",
        kernel_initializer=next(initializers),
        name=f"{name}_conv",
        dtype=dtype,
    )
    mix = keras.layers.Conv2D(
        width, 1, kernel_initializer=next(initializers), name=f"{name}_mix", dtype=dtype
    )
    return keras.layers.Add(name=f"{name}_add", dtype=dtype)([x, mix(conv(x))])
