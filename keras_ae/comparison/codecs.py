"""The model compared with JPEG, WebP and PCA at the byte size of its latent."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from keras_ae.comparison import statistics
from keras_ae.comparison.records import Codec, CodecKey, Codecs
from keras_ae.contract import TEST

NAMES: Final[Mapping[CodecKey, str]] = {
    "model": "the model, latent in float32",
    "model_8bit": "the model, latent in 8 bits",
    "patch_pca": "patch PCA, latent in float32",
    "jpeg": "JPEG",
    "webp": "WebP",
}


def summarize(
    quality: Mapping[str, Mapping[str, np.ndarray]], sizes: np.ndarray, pixels: np.ndarray
) -> Codecs:
    """Computes means and intervals of codecs on test images, at the same number of bytes.

    Args:
        quality: by key of `NAMES`, `psnr` (dB) and `ssim`, float [N]; NaN where a codec cannot
            store an image in so few bytes, or where SSIM is not defined.
        sizes, pixels: bytes of each image's latent in 8 bits, and its number of pixels, [N].
    """
    bits = 8.0 * float(sizes.sum()) / float(pixels.sum())
    return Codecs(
        split=TEST,
        images=len(sizes),
        bits_per_pixel=bits,
        bytes=float(sizes.mean()),
        rows=tuple(_row(key, quality) for key in NAMES if key in quality),
        text=(
            f"{len(sizes)} test images, each stored in at most as many bytes as its latent has "
            f"values ({bits:.2f} bits per pixel). What all files of a format share (container, "
            "headers, tables) is not counted, just as the weights of the model are not counted"
        ),
    )


def _row(key: CodecKey, quality: Mapping[str, Mapping[str, np.ndarray]]) -> Codec:
    psnr = quality[key]["psnr"]
    stored = int(np.isfinite(psnr).sum())
    return Codec(
        key=key,
        name=NAMES[key],
        images=stored,
        skipped=len(psnr) - stored,
        psnr=statistics.estimate(_defined(psnr)),
        ssim=statistics.estimate(_defined(quality[key]["ssim"])),
        against_model=statistics.paired(_defined(psnr - quality["model"]["psnr"])),
    )


def _defined(values: np.ndarray) -> np.ndarray:
    defined: np.ndarray = values[np.isfinite(values)]
    return defined
