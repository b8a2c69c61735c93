"""Linear baselines ("floors") in closed form: PCA of patches, and PCA of whole small images.

PCA is the best linear autoencoder in the sense of the mean squared error.
"""

import itertools
import math
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_ae.errors import ConfigurationError, DataError, StorageError
from keras_ae.models.layers import (
    depth_to_space,
    pad_to_multiple,
    space_to_depth,
    to_float,
    to_uint8,
)
from keras_ae.presets import TRAIN_TILE
from keras_ae.types import Tensor

MAX_IMAGE_VALUES = 4096
"""Maximum of values (height * width * channels) of images whose global PCA is computed."""
_BLOCK_ROWS = 1024


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


class GlobalPCA(NamedTuple):
    """Principal components of images of `shape` [H, W, C], each as one patch, p = H * W * C."""

    shape: tuple[int, int, int]
    pca: PatchPCA


def patch_moments(images: Iterable[np.ndarray], stride: int) -> np.ndarray:
    """Sums the outer products of all patches, each with a leading 1, over integer grey levels.

    Patches are those of uint8 images [H, W, C], without rows and columns beyond a multiple of
    `stride`. The sums are exact in float64 up to 10^11 patches, and so the same in any order.

    Returns:
        float64 [1 + p, 1 + p]: the count at [0, 0], sums in row 0, sums of products elsewhere.

    Raises:
        DataError: if no image contains a whole patch.

    >>> moments = patch_moments([np.zeros((16, 24, 3), np.uint8)], stride=8)
    >>> moments.shape, moments[0, 0]  # of 8 * 8 * 3 values and the 1, of 6 patches
    ((193, 193), np.float64(6.0))
    """
    total = _sum_products(_patches(image, stride) for image in images)
    if total is None:
        raise DataError(f"no training image is at least {stride}x{stride} pixels")
    return total


def image_moments(images: Iterable[np.ndarray]) -> np.ndarray:
    """Sums the outer products of all images: `patch_moments` with an image as one patch.

    Raises DataError if there is no image, or if they differ in shape.

    >>> image_moments(np.zeros((5, 4, 4, 1), np.uint8)).shape
    (17, 17)
    """
    total = _sum_products(_vectors(images))
    if total is None:
        raise DataError("there is no training image")
    return total


def fit(moments: np.ndarray, latent_channels: int) -> PatchPCA:
    """Computes 1 to p principal components from the sums of `patch_moments` or `image_moments`.

    Raises:
        ConfigurationError: if there are more latent channels than values in a patch.
        DataError: if the moments are not finite, or sums over no patch.

    >>> images = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), np.uint8)
    >>> pca = fit(patch_moments(images, stride=8), latent_channels=8)
    >>> pca.components.shape
    (192, 8)
    """
    patch = moments.shape[0] - 1
    if not 1 <= latent_channels <= patch:
        raise ConfigurationError(
            f"latent channels must be 1 to {patch}, the values of a patch; got {latent_channels}"
        )
    count = moments[0, 0]
    if count < 1 or not np.isfinite(moments).all():
        raise DataError("the patch covariance needs at least one patch of finite pixels")
    mean = moments[0, 1:] / count
    covariance = moments[1:, 1:] / count - np.outer(mean, mean)
    variances, vectors = np.linalg.eigh(covariance)
    largest = np.argsort(-variances, kind="stable")[:latent_channels]
    components = vectors[:, largest]
    # The sign of an eigenvector is arbitrary; fixing it makes the result reproducible.
    components *= np.where(components.sum(axis=0) < 0, -1.0, 1.0)
    # Constant images have no variance; a scale of one grey level keeps the whitening finite.
    scales = np.sqrt(np.maximum(variances[largest], 1.0))
    return PatchPCA(mean / 255.0, components, scales / 255.0)


def fit_global(images: Iterable[np.ndarray], stride: int, latent_channels: int) -> GlobalPCA:
    """Computes the global floor: PCA of whole images, with one component per latent value.

    It is defined if

    - all images have one shape and are at most as high and wide as a tile, which is what a model
      sees at once;
    - they have D = H * W * C <= 4096 values. The covariance, its eigenvectors and the solver's
      workspace take about 50 D^2 bytes, 0.8 GB at the limit, and D^3 + N D^2 operations for N
      images, about half a minute for 50,000 images of 32x32 RGB;
    - there are at least D images. The covariance of fewer is singular: the components would
      overfit the training images and be no baseline for held-out ones;
    - the latent has fewer values than the image.

    It has as many components as a model with the same stride and latent channels has latent values:
    ceil(H / stride) * ceil(W / stride) * latent_channels. The training images, uint8 [H, W, C], are
    read once, up to the first one that violates a condition. Raises DataError if it is not defined;
    the message is the reason in a short sentence.

    >>> images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), np.uint8)
    >>> fit_global(images, stride=4, latent_channels=2).pca.components.shape
    (64, 8)
    """
    remaining = iter(images)
    if (first := next(remaining, None)) is None:
        raise DataError("there is no training image")
    height, width = first.shape[:2]
    if max(height, width) > TRAIN_TILE:
        raise DataError(
            f"images of {height}x{width} pixels are larger than a tile of {TRAIN_TILE}x{TRAIN_TILE}"
        )
    if first.size > MAX_IMAGE_VALUES:
        raise DataError(f"an image has {first.size} values; the limit is {MAX_IMAGE_VALUES}")
    components = -(-height // stride) * -(-width // stride) * latent_channels
    if components >= first.size:
        raise DataError(
            f"a latent of {components} values is not smaller than an image of {first.size}"
        )
    moments = image_moments(itertools.chain([first], remaining))
    if moments[0, 0] < first.size:
        raise DataError(
            f"{moments[0, 0]:.0f} training images are fewer than the {first.size} values of each"
        )
    return GlobalPCA(first.shape, fit(moments, components))


def save(pca: PatchPCA, path: Path) -> None:
    """Writes principal components to an NPZ file, and creates its folder if it is missing.

    Raises StorageError if it cannot be written.

    >>> images = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), np.uint8)
    >>> save(fit(patch_moments(images, stride=8), latent_channels=8), Path("floor.npz"))
    >>> load(Path("floor.npz")).components.shape
    (192, 8)
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.savez(file, **pca._asdict())
    except OSError as error:
        raise StorageError(f"cannot write the floor {path}: {error.strerror}") from error


def load(path: Path) -> PatchPCA:
    """Reads principal components that `save` wrote; see there for an example.

    Raises DataError if the file is missing or was not written by `save`.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return PatchPCA(**{name: arrays[name] for name in PatchPCA._fields})
    except (OSError, EOFError, TypeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} contains no principal components: {error}") from error


def set_linear_path(model: keras.Model, pca: PatchPCA) -> None:
    """Sets the linear path of a `ConvAutoencoder` to the PCA, with latents of unit variance.

    >>> images = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), np.uint8)
    >>> pca = fit(patch_moments(images, stride=8), latent_channels=8)
    >>> from keras_ae import ConvAutoencoder
    >>> model = ConvAutoencoder("small")
    >>> set_linear_path(model, pca)
    >>> pixels = images / np.float32(255)
    >>> np.allclose(model(pixels), reconstruct(pixels, pca, stride=8), atol=1e-5)
    True
    """
    encode, decode = pca.components / pca.scales, (pca.components * pca.scales).T
    for part, name, kernel, bias in (
        (model.encoder, "linear_encode", encode, -pca.mean @ encode),
        (model.decoder, "linear_decode", decode, pca.mean),
    ):
        part.get_layer(name).set_weights([kernel[None, None], bias])


def reconstruct(images: Tensor, pca: PatchPCA, stride: int) -> Tensor:
    """Projects each patch onto the principal components: the reconstruction of the linear floor.

    Maps float32 [N, H, W, C] in 0..1 to the same shape, not clipped; example in `set_linear_path`.
    """
    height, width = ops.shape(images)[1:3]
    patches = _project(space_to_depth(pad_to_multiple(images, stride), stride), pca)
    return depth_to_space(patches, stride)[:, :height, :width, :]


def reconstruct_rounded(images: Tensor, pca: PatchPCA, stride: int) -> Tensor:
    """Like `reconstruct`, from and to grey levels 0..255, uint8 [N, H, W, C].

    >>> images = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), np.uint8)
    >>> pca = fit(patch_moments(images, stride=8), latent_channels=8)
    >>> tuple(reconstruct_rounded(images, pca, stride=8).shape)
    (4, 16, 24, 3)
    """
    return to_uint8(reconstruct(to_float(images), pca, stride))


def reconstruct_global(images: Tensor, floor: GlobalPCA) -> Tensor:
    """Projects each image onto the principal components: the reconstruction of the global floor.

    Maps float32 [N, H, W, C] in 0..1, of the shape of `floor`, to the same shape, not clipped.

    >>> images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), np.uint8)
    >>> floor = fit_global(images, stride=4, latent_channels=2)
    >>> tuple(reconstruct_global(images / np.float32(255), floor).shape)
    (64, 8, 8, 1)
    """
    vectors = ops.reshape(images, (-1, math.prod(floor.shape)))
    return ops.reshape(_project(vectors, floor.pca), (-1, *floor.shape))


def _project(vectors: Tensor, pca: PatchPCA) -> Tensor:
    mean = ops.convert_to_tensor(pca.mean.astype("float32"))
    components = ops.convert_to_tensor(pca.components.astype("float32"))
    return ops.matmul(ops.matmul(vectors - mean, components), ops.transpose(components)) + mean


def _patches(image: np.ndarray, stride: int) -> np.ndarray:
    """uint8 [H, W, C] -> uint8 [patches, stride * stride * C]."""
    h, w, channels = image.shape[0] // stride, image.shape[1] // stride, image.shape[2]
    patches = image[: h * stride, : w * stride].reshape(h, stride, w, stride, channels)
    return patches.transpose(0, 2, 1, 3, 4).reshape(h * w, stride * stride * channels)


def _vectors(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields each image, uint8 [H, W, C], as uint8 [1, H * W * C]; raises if shapes differ."""
    shape: tuple[int, ...] | None = None
    for image in images:
        shape = shape or image.shape
        if image.shape != shape:
            sizes = " and ".join(f"{s[0]}x{s[1]}" for s in (shape, image.shape))
            raise DataError(f"the training images differ in size: {sizes}")
        yield image.reshape(1, -1)


def _sum_products(arrays: Iterable[np.ndarray]) -> np.ndarray | None:
    """Sums the outer products of all rows of arrays [n, p], each row with a leading 1."""
    total = None
    for block in _blocks(arrays):
        rows = np.ones((len(block), 1 + block.shape[1]))
        rows[:, 1:] = block
        products = rows.T @ rows
        total = products if total is None else np.add(total, products, out=total)
    return total


def _blocks(arrays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields the rows of all arrays in blocks: large for fast matrix products, and bounded."""
    block: list[np.ndarray] = []
    rows = 0
    for array in arrays:
        for start in range(0, len(array), _BLOCK_ROWS):
            block.append(array[start : start + _BLOCK_ROWS])
            rows += len(block[-1])
            if rows >= _BLOCK_ROWS:
                yield np.concatenate(block)
                block, rows = [], 0
    if block:
        yield np.concatenate(block)
