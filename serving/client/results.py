"""What a client answers: plain Python and NumPy, the same over gRPC and REST."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

UNUSUAL = 0.99
"""Percentile from which an image counts as unlike those that the model was trained for."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """One image's answer.

    Attributes:
        image: uint8 [H, W, C], the reconstruction in the size of the image that was sent; 0 x 0
            for an image that cannot be used. If PNG was asked for, its bytes; none likewise.
        mse: mean squared error on pixels scaled to 0..1; NaN for an image that cannot be used.
        psnr: in dB, up to 100; NaN likewise.
        ssim: up to 1; NaN likewise, and for images smaller than 11 pixels.
        percentile: share of val images that the model reconstructs better, 0..1, this one counted
            among them; NaN where the model carries none.
        status: empty for a good image; else why it cannot be used.
    """

    image: Any
    mse: float
    psnr: float
    ssim: float
    percentile: float
    status: str = ""

    @property
    def unusual(self) -> bool:
        """Whether the image is reconstructed worse than 99 % of the val images."""
        return self.percentile >= UNUSUAL


@dataclass(frozen=True, eq=False)
class _Answers:
    """The answers for N images, in their order.

    Attributes:
        mse, psnr, ssim, percentile: float32 [N], see `Reconstruction`.
        status: N texts, empty for a good image.
    """

    mse: np.ndarray
    psnr: np.ndarray
    ssim: np.ndarray
    percentile: np.ndarray
    status: tuple[str, ...]

    @property
    def unusual(self) -> np.ndarray:
        """Boolean [N]: which images are reconstructed worse than 99 % of the val images."""
        return self.percentile >= UNUSUAL

    def __len__(self) -> int:
        return len(self.status)


@dataclass(frozen=True, eq=False)
class Reconstructions(_Answers):
    """The reconstructions of N images; indexing gives one `Reconstruction`.

    Attributes:
        reconstructions: uint8 [N, H, W, C] if one array was sent, else a list of [H, W, C];
            0 x 0 for an image that cannot be used. If PNG was asked for, a list of bytes.
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
        )

    def __iter__(self) -> Iterator[Reconstruction]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True, eq=False)
class Scores(_Answers):
    """The quality of N images' reconstructions.

    Attributes:
        ms_ssim: float32 [N], SSIM over up to five scales.
        floor_psnr: float32 [N], in dB: the PSNR of the best linear autoencoder of the same size.
    """

    ms_ssim: np.ndarray
    floor_psnr: np.ndarray


class TensorInfo(NamedTuple):
    """An input or output: `dtype` as "uint8"; a size of None varies, as does a `shape` of None."""

    dtype: str
    shape: tuple[int | None, ...] | None


class Signature(NamedTuple):
    """What a signature takes and gives, by the names of the tensors."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]


@dataclass(frozen=True)
class Metadata:
    """A model in service: its name, the version that answered, and its signatures."""

    model: str
    version: int
    signatures: dict[str, Signature] = field(default_factory=dict)


class VersionStatus(NamedTuple):
    """A version: START, LOADING, AVAILABLE, UNLOADING or END; `error` says why it failed."""

    version: int
    state: str
    error: str = ""
