"""Layers of the models, and the scaling of pixels. Tensors are channels-last."""

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
    """Repeats the last row and column of [N, H, W, C] until H and W are multiples of `stride`.

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
    """Moves patches into the channels, in (row, column, channel) order.

    [N, H, W, C] -> [N, H / s, W / s, s * s * C]; H and W are multiples of the stride s.

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


class _StrideLayer(keras.layers.Layer):
    """A layer with the side of a patch."""

    def __init__(self, stride: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.stride = stride

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stride": self.stride}


@keras.saving.register_keras_serializable("keras_ae")
class SpaceToDepth(_StrideLayer):
    """`space_to_depth` as a layer."""

    def call(self, inputs: Tensor) -> Tensor:
        return space_to_depth(inputs, self.stride)

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        (n, h, w, c), s = input_shape, self.stride
        return (n, h and h // s, w and w // s, s * s * c)


@keras.saving.register_keras_serializable("keras_ae")
class DepthToSpace(_StrideLayer):
    """`depth_to_space` as a layer (sub-pixel shuffle, Shi et al. 2016)."""

    def call(self, inputs: Tensor) -> Tensor:
        return depth_to_space(inputs, self.stride)

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        (n, h, w, c), s = input_shape, self.stride
        return (n, h and h * s, w and w * s, c // (s * s))
