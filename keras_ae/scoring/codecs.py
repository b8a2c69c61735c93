"""Compares the chosen model with JPEG and WebP at the byte size of its latents in 8 bits."""

import heapq
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ae.concurrency import map_in_threads
from keras_ae.contract import TEST, VAL
from keras_ae.models import linear
from keras_ae.scores import METRICS
from keras_ae.scoring import coding
from keras_ae.scoring.coding import Quantizer
from keras_ae.scoring.floors import Floors
from keras_ae.scoring.models import ServedModel, load, measure_reconstructions
from keras_ae.scoring.reading import Example, decode_batch, read_examples

MAX_IMAGES = 200
MAX_PIXELS = 50_000_000
"""Limits of the test images that are encoded, and of all their pixels; at least one is encoded."""
MAX_RANGE_PIXELS = 10_000_000
"""The same limit for the val images from which the range of the latents is measured."""
KINDS = ("model", "model_8bit", "jpeg", "webp", "patch_pca")


def score_codecs(
    patterns: Mapping[str, str],
    model: str,
    floors: Floors,
    channels: int,
    graph_of: Callable[[str], str] = str,
) -> dict[str, Any]:
    """Compares a model, its latents in 8 bits, JPEG, WebP and patch PCA on test images.

    The images are those with the lowest digests: a sample that is the same in each run. An image
    may take one byte for each value of its latent. The codecs' bytes are counted as described in
    `keras_ae.scoring.coding`. Latents are quantized in the range that they have on val images.

    Args:
        patterns: by split, the pattern of its files: GZIP TFRecords of tf.Examples.
        model, channels, graph_of: as for `keras_ae.scoring.models.load`, of one folder.
        floors: the linear floors, of which patch PCA is used.

    Returns:
        `sources`, a list of N names; `bytes` and `pixels`, int64 [N]; `images`, N; and for each of
        `KINDS` a dict of `psnr` and `ssim`, float32 [N], NaN where a codec cannot store an image in
        so few bytes or where SSIM is not defined.

    Raises:
        DataError: with the source of an image that cannot be decoded.
    """
    (loaded,) = load([model], channels, graph_of)
    quantizer = coding.fit_quantizer(
        loaded.encode(decode_batch([example], channels)).numpy()
        for example in _sample(patterns[VAL], MAX_RANGE_PIXELS)
    )
    examples = _sample(patterns[TEST], MAX_PIXELS)

    def score(example: Example) -> tuple[int, np.ndarray]:
        return _score(decode_batch([example], channels), loaded, quantizer, floors)

    sizes, values = zip(*map_in_threads(score, examples, os.cpu_count() or 1))
    by_kind = zip(KINDS, np.stack(values, 1))
    return {
        "sources": [example.source for example in examples],
        "images": len(examples),
        "bytes": np.array(sizes, np.int64),
        "pixels": np.array([e.height * e.width for e in examples], np.int64),
        **{kind: {"psnr": scores[:, 0], "ssim": scores[:, 1]} for kind, scores in by_kind},
    }


def _sample(pattern: str, max_pixels: int) -> list[Example]:
    """The pictures with the lowest digests, at most `MAX_IMAGES` and `max_pixels`, at least one."""
    # The files are read twice, so that only the images of the sample are kept in memory.
    lowest = heapq.nsmallest(MAX_IMAGES, _different(read_examples(pattern)))
    areas = np.cumsum([area for _, _, area in lowest])
    count = max(1, int(np.searchsorted(areas, max_pixels, "right")))
    sources = {source for _, source, _ in lowest[:count]}
    return [example for example in read_examples(pattern) if example.source in sources]


def _different(examples: Iterable[Example]) -> Iterator[tuple[str, str, int]]:
    """Digest, source and pixels of each image, of copies those of the largest one."""
    copies: dict[str, tuple[int, str, str]] = {}
    for example in examples:
        digest, source, area = example.digest, example.source, example.height * example.width
        if example.picture:
            key = -area, digest, source
            copies[example.picture] = min(key, copies.get(example.picture, key))
        else:
            yield digest, source, area
    yield from ((digest, source, -area) for area, digest, source in copies.values())


def _score(
    image: Any, model: ServedModel, quantizer: Quantizer, floors: Floors
) -> tuple[int, np.ndarray]:
    """The allowed bytes of an image [1, H, W, C], and PSNR and SSIM by kind, [kinds, 2]."""
    _, height, width, _ = image.shape
    latents = model.encode(image).numpy()
    rounded = quantizer.decode(quantizer.encode(latents))
    encoders = (coding.encode_jpeg, coding.encode_webp)
    original = image[0].numpy()
    encoded = [encode(original, latents.size) for encode in encoders]
    reconstructions = [
        *(model.decode(values)[0, :height, :width].numpy() for values in (latents, rounded)),
        *(None if file is None else file.pixels for file in encoded),
        np.asarray(linear.reconstruct_rounded(image, floors.patch, floors.stride))[0],
    ]
    # A missing reconstruction is replaced by the original, and its scores by NaN.
    complete = [original if r is None else r for r in reconstructions]
    values = measure_reconstructions(image, tf.constant(np.stack(complete)[:, None]))
    values = values.reshape(len(KINDS), len(METRICS))
    values[[r is None for r in reconstructions]] = np.nan
    return latents.size, values[:, [METRICS.index("psnr"), METRICS.index("ssim")]]
