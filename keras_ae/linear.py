"""The best linear autoencoder on patches, in closed form: PCA of the patch covariance."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_ae.errors import ConfigurationError, DataError
from keras_ae.layers import depth_to_space, pad_to_multiple, space_to_depth


class PatchPCA(NamedTuple):
    """Principal components of s x s patches of pixels scaled to 0..1.

    Attributes:
        mean: float64 [p], p = s * s * channels, in (row, column, channel) order.
        components: float64 [p, c], orthonormal columns, largest variance first.
        scales: float64 [c], standard deviation of each component, never 0.
    """

    mean: np.ndarray
    components: np.ndarray
    scales: np.ndarray


def patch_moments(images: Iterable[np.ndarray], stride: int) -> np.ndarray:
    """Sums the products of all pixels of each patch, with a leading 1, over integer grey levels.

    The sums are exact in float64 up to 10^11 patches, hence the same in any order.

    Args:
        images: uint8 arrays [H, W, C]; rows and columns beyond a multiple of `stride` are left out.
        stride: side of a patch in pixels.

    Returns:
        float64 [1 + p, 1 + p]: the count at [0, 0], sums in row 0, sums of products elsewhere.

    Raises:
        DataError: if no image holds a whole patch.
    """
    total = np.zeros((1, 1))
    for image in images:
        h, w, channels = image.shape[0] // stride, image.shape[1] // stride, image.shape[2]
        patches = image[: h * stride, : w * stride].reshape(h, stride, w, stride, channels)
        patches = patches.transpose(0, 2, 1, 3, 4).reshape(h * w, stride * stride * channels)
        rows = np.hstack([np.ones((h * w, 1)), patches.astype(np.float64)])
        total = total + rows.T @ rows
    if total[0, 0] == 0:
        raise DataError(f"no training image is at least {stride}x{stride} pixels")
    return total


def fit(moments: np.ndarray, latent_channels: int) -> PatchPCA:
    """Turns the sums of `patch_moments` into principal components.

    Args:
        moments: float64 [1 + p, 1 + p], of grey levels 0..255.
        latent_channels: number of components, 1 to p.

    Raises:
        ConfigurationError: if there are more latent channels than numbers in a patch.
        DataError: if the moments are of no patch or not finite.
    """
    patch = moments.shape[0] - 1
    if not 1 <= latent_channels <= patch:
        raise ConfigurationError(
            f"latent channels must be 1 to {patch}, the numbers in a patch; got {latent_channels}"
        )
    count = moments[0, 0]
    if count < 1 or not np.isfinite(moments).all():
        raise DataError("the patch covariance needs at least one patch of finite pixels")
    mean = moments[0, 1:] / count
    covariance = moments[1:, 1:] / count - np.outer(mean, mean)
    variances, vectors = np.linalg.eigh(covariance)
    top = np.argsort(-variances, kind="stable")[:latent_channels]
    components = vectors[:, top]
    components *= np.where(components.sum(axis=0) < 0, -1.0, 1.0)
    # A constant image has no variance; a scale of one grey level keeps the whitening finite.
    scales = np.sqrt(np.maximum(variances[top], 1.0))
    return PatchPCA(mean / 255.0, components, scales / 255.0)


def set_linear_path(model, pca: PatchPCA) -> None:
    """Sets the linear path of a model to the PCA, with latents of unit variance.

    Args:
        model: a `ConvAutoencoder` with layers `linear_encode` and `linear_decode`.
        pca: components of patches of the model's stride and channels.
    """
    encode = pca.components / pca.scales
    model.encoder.get_layer("linear_encode").set_weights(
        [encode.reshape(1, 1, *encode.shape), -pca.mean @ encode]
    )
    decode = (pca.components * pca.scales).T
    model.decoder.get_layer("linear_decode").set_weights(
        [decode.reshape(1, 1, *decode.shape), pca.mean]
    )


def reconstruct(images, pca: PatchPCA, stride: int):
    """The linear floor: images through the principal components and back.

    Args:
        images: float32 tensor [N, H, W, C] in 0..1.

    Returns:
        float32 tensor [N, H, W, C], not clipped.
    """
    height, width = ops.shape(images)[1:3]
    mean = ops.convert_to_tensor(pca.mean.astype("float32"))
    components = ops.convert_to_tensor(pca.components.astype("float32"))
    patches = space_to_depth(pad_to_multiple(images, stride), stride) - mean
    patches = ops.matmul(ops.matmul(patches, components), ops.transpose(components)) + mean
    return depth_to_space(patches, stride)[:, :height, :width, :]
