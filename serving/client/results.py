"""The results that clients return: plain Python and NumPy, the same over gRPC and REST."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from keras_ae import contract as c


def _is_judged(percentile: Any, val_images: Any) -> Any:
    # With fewer val images, even an image that is worse than all of them stays below the limit.
    is_enough = np.asarray(val_images) >= c.MIN_VAL_IMAGES
    return (np.asarray(percentile) >= c.UNUSUAL_PERCENTILE) | (is_enough & ~np.isnan(percentile))


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The result for one image.

    Attributes:
        image: the reconstruction, uint8 [H, W, C], of the same size as the image that was sent;
            [0, 0, 3] for an image that cannot be used. With `as_png` the bytes of a PNG file, empty
            for an image that cannot be used.
        mse: mean squared error on pixels scaled to 0..1; NaN for an image that cannot be used.
        psnr: in dB, at most 100; NaN for an image that cannot be used.
        ssim: at most 1; NaN for an image that cannot be used or has a side below 11 pixels.
        percentile: share of val images, 0..1, that the model reconstructs better, this image
            counted among them; NaN if the model was exported without the errors of val images.
        status: empty for a good image; otherwise why it cannot be used.
        note: what was done to the file before it was sent, such as "only the first page was sent";
            empty for most images.
        val_images: number of val images behind the percentile; 0 if the model does not tell it, as
            those that were exported earlier.
    """

    image: Any
    mse: float
    psnr: float
    ssim: float
    percentile: float
    status: str = ""
    note: str = ""
    val_images: int = 0

    @property
    def unusual(self) -> bool:
        """Whether the image is reconstructed worse than 99 % of the val images.

        It is also False if that cannot be told; see `judged`.
        """
        return self.percentile >= c.UNUSUAL_PERCENTILE

    @property
    def judged(self) -> bool:
        """Whether the val images are enough to tell whether the image is unusual."""
        return bool(_is_judged(self.percentile, self.val_images))


@dataclass(frozen=True, eq=False)
class _ImageResults:
    """The results for N images, in their order.

    Attributes:
        mse, psnr, ssim, percentile: float32 [N]; see `Reconstruction`.
        val_images: int64 [N]; see `Reconstruction`.
        status: N strings, empty for a good image.
        notes: N strings; see `Reconstruction.note`.
    """

    mse: np.ndarray
    psnr: np.ndarray
    ssim: np.ndarray
    percentile: np.ndarray
    val_images: np.ndarray
    status: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def unusual(self) -> np.ndarray:
        """Boolean [N]: which images are reconstructed worse than 99 % of the val images."""
        return self.percentile >= c.UNUSUAL_PERCENTILE

    @property
    def judged(self) -> np.ndarray:
        """Boolean [N]: for which images it can be told whether they are unusual."""
        return _is_judged(self.percentile, self.val_images)

    def __len__(self) -> int:
        return len(self.status)


@dataclass(frozen=True, eq=False)
class Reconstructions(_ImageResults):
    """The reconstructions of N images; indexing gives one `Reconstruction`.

    Attributes:
        reconstructions: uint8 [N, H, W, C] if one array was sent, otherwise a list of [H, W, C],
            [0, 0, 3] for an image that cannot be used. With `as_png` a list of bytes.
    """

    reconstructions: Any

    def __getitem__(self, index: int) -> Reconstruction:
        return Reconstruction(
            self.reconstructions[index],
            float(self.mse[index]),
            float(self.psnr[index]),
            float(self.ssim[index]),
            float(self.percentile[index]),
            self.status[index],
            self.notes[index],
            int(self.val_images[index]),
        )

    def __iter__(self) -> Iterator[Reconstruction]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True, eq=False)
class Scores(_ImageResults):
    """The scores of the reconstructions of N images.

    Attributes:
        ms_ssim: float32 [N], SSIM over up to five scales.
        floor_psnr: float32 [N], in dB: the PSNR of the best linear autoencoder of the same size.
    """

    ms_ssim: np.ndarray
    floor_psnr: np.ndarray


class TensorInfo(NamedTuple):
    """An input or output; `dtype` is like "uint8", and None is an unknown size or shape."""

    dtype: str
    shape: tuple[int | None, ...] | None


class Signature(NamedTuple):
    """The inputs and outputs of a signature, by name."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]


@dataclass(frozen=True)
class Metadata:
    """A served model: its name, its version that answered, and the signatures of that version."""

    model: str
    version: int
    signatures: dict[str, Signature] = field(default_factory=dict)


class VersionStatus(NamedTuple):
    """The state of a version: START, LOADING, AVAILABLE, UNLOADING or END.

    `error` says why the version could not be loaded.
    """

    version: int
    state: str
    error: str = ""
