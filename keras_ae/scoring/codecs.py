"""The chosen model beside JPEG and WebP, in as many bytes as its latents take at 8 bits."""

import heapq
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ae import storage
from keras_ae.concurrency import map_in_threads
from keras_ae.contract import TEST, VAL
from keras_ae.models import linear
from keras_ae.scores import METRICS
from keras_ae.scoring import coding
from keras_ae.scoring.coding import Quantizer
from keras_ae.scoring.floors import Floors
from keras_ae.scoring.models import Served, compared, load
from keras_ae.scoring.reading import Example, pixels, read

IMAGES = 200
PIXELS = 50_000_000
"""Most test images, and most of their pixels together, that are encoded; at least one image."""
RANGE_PIXELS = 10_000_000
"""The same of the val images that the range of the latents is taken from."""
KINDS = ("model", "model_8bit", "jpeg", "webp", "patch_pca")


def score_codecs(
    patterns: Mapping[str, str],
    model: str,
    floors: Floors,
    channels: int,
    graph_of: Callable[[str], str] = str,
) -> dict[str, Any]:
    """Compares a model, its latents in 8 bits, JPEG, WebP and the patch PCA on some test images.

    The images are those with the lowest digests: as good as drawn, and the same in each run. The
    budget of an image is one byte for each number of its latent. The codecs' bytes are counted as
    in `keras_ae.scoring.coding`. Latents are quantized in the range that they have on val images.

    Args:
        patterns: of each split, the pattern of its files: GZIP TFRecords of tf.Examples.
        model: folder of the SavedModel.
        floors: for the patch PCA.
        channels: 1 or 3.
        graph_of: as for `keras_ae.scoring.models.load`.

    Returns:
        `sources`, a list of N names; `bytes` and `pixels`, int64 [N]; `images`, N; and by kind,
        `KINDS`, a dict of `psnr` and `ssim`, float32 [N], NaN where a codec cannot do with so few
        bytes or where SSIM is not defined.

    Raises:
        DataError: with the source of an image that cannot be decoded.
    """
    (loaded,) = load([model], channels, graph_of)
    quantizer = coding.quantizer(
        loaded.encode(pixels([example], channels)).numpy()
        for example in _lowest(patterns[VAL], RANGE_PIXELS)
    )
    examples = _lowest(patterns[TEST], PIXELS)

    def score(example: Example) -> tuple[int, np.ndarray]:
        return _score(pixels([example], channels), loaded, quantizer, floors)

    budgets, values = zip(*map_in_threads(score, examples, os.cpu_count() or 1))
    by_kind = np.stack(values, 1)
    return {
        "sources": [example.source for example in examples],
        "images": len(examples),
        "bytes": np.array(budgets, np.int64),
        "pixels": np.array([e.height * e.width for e in examples], np.int64),
        **{
            kind: {"psnr": by_kind[i, :, 0], "ssim": by_kind[i, :, 1]}
            for i, kind in enumerate(KINDS)
        },
    }


def _lowest(pattern: str, most: int) -> list[Example]:
    """The images with the lowest digests, at most `IMAGES` and so many pixels, or one."""
    # Twice through the files, so that only those that are wanted are held.
    keys = ((e.digest, e.source, e.height * e.width) for e in _examples(pattern))
    lowest = heapq.nsmallest(IMAGES, keys)
    areas = np.cumsum([area for _, _, area in lowest])
    count = max(1, int(np.searchsorted(areas, most, "right")))
    sources = {source for _, source, _ in lowest[:count]}
    return [example for example in _examples(pattern) if example.source in sources]


def _examples(pattern: str) -> Iterator[Example]:
    for file in storage.glob(pattern):
        for batch in read(file):
            yield from batch


def _score(
    image: Any, model: Served, quantizer: Quantizer, floors: Floors
) -> tuple[int, np.ndarray]:
    """The budget of an image [1, H, W, C] in bytes, and PSNR and SSIM by kind, [kinds, 2]."""
    _, height, width, _ = image.shape
    latents = model.encode(image).numpy()
    rounded = quantizer.decode(quantizer.encode(latents))
    whole = image[0].numpy()
    coded = [code(whole, latents.size) for code in (coding.jpeg, coding.webp)]
    several = [
        *(model.decode(some)[0, :height, :width].numpy() for some in (latents, rounded)),
        *(None if one is None else one.pixels for one in coded),
        np.asarray(linear.reconstruct_rounded(image, floors.patch, floors.stride))[0],
    ]
    # What is not there is compared as if it were the image, and then left out.
    present = [whole if other is None else other for other in several]
    values = compared(image, tf.constant(np.stack(present)[:, None]))
    values = values.reshape(len(KINDS), len(METRICS))
    values[[other is None for other in several]] = np.nan
    return latents.size, values[:, [METRICS.index("psnr"), METRICS.index("ssim")]]
