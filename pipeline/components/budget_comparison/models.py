"""All models and floors on batches of images, in one process."""

import math
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ae import metrics, scores
from keras_ae.quality import measure
from keras_ae.scores import Table
from keras_ae.tiling import TILE
from pipeline.components.budget_comparison import served
from pipeline.components.budget_comparison.floors import Floors, psnr_of
from pipeline.components.budget_comparison.reading import Example, pixels, read

TOGETHER = 1 << 23
"""Pixels of the reconstructions that are compared with their originals together, if one has not
more: they share the originals' side of SSIM."""
THREADS = 2
"""Batches at a time: what one core does for a batch hides behind what another does for the next."""

_tracing = threading.Lock()


class Models:
    """Every model, loaded, and the floors.

    Args:
        paths: folders of the SavedModels, in the order of a layout's columns.
        floors: the linear floors.
        channels: of the images, 1 or 3.
    """

    def __init__(self, paths: Sequence[str], floors: Floors, channels: int):
        self._channels, self._floors = channels, psnr_of(floors, channels)
        self._models = served.load(paths, channels)

    def score(self, file: str) -> Iterator[tuple[Table, tuple[int, int]]]:
        """Yields the scores of the images of a file in tables, and their height and width."""
        with ThreadPoolExecutor(THREADS) as pool:
            waiting: deque[Any] = deque()
            for batch in read(file):
                waiting.append(pool.submit(self._table, batch))
                if len(waiting) > THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _table(self, batch: list[Example]) -> tuple[Table, tuple[int, int]]:
        values = self._values(pixels(batch, self._channels))
        columns = {by: [example.slices[by] for example in batch] for by in batch[0].slices}
        digests = [example.digest for example in batch]
        table = scores.table([example.source for example in batch], digests, columns, values)
        return table, (batch[0].height, batch[0].width)

    def _values(self, originals: Any) -> np.ndarray:
        """uint8 [N, H, W, C] -> float32 [N, width of the layout]."""
        values = [self._floors(originals)]
        several = max(1, TOGETHER // math.prod(originals.shape[:3]))
        for start in range(0, len(self._models), several):
            some = self._models[start : start + several]
            reconstructions = tf.stack([model.reconstruct(originals) for model in some])
            values.append(compared(originals, reconstructions))
        return np.concatenate(values, 1)


def compared(originals: Any, reconstructions: Any) -> np.ndarray:
    """Metrics of some reconstructions, in the order of `keras_ae.scores.METRICS`.

    Args:
        originals: uint8 tensor [N, H, W, C].
        reconstructions: M of each, uint8 tensor [M, N, H, W, C].

    Returns:
        float32 [N, M * metrics].
    """
    height, width, channels = originals.shape[1:]
    with _tracing:
        measured = _measure(channels, metrics.fitting_scales(height, width))
    return measured(originals, reconstructions).numpy()


@cache
def _measure(channels: int, scales: int) -> Any:
    """`compared` as a traced function."""

    def measured(images: Any, several: Any) -> Any:
        mse, ssim, ms_ssim = measure(images, several, tile=TILE, scales=scales)
        found = {"mse": mse, "psnr": metrics.psnr_from_mse(mse), "ssim": ssim, "ms_ssim": ms_ssim}
        values = tf.stack([tf.transpose(found[name]) for name in scores.METRICS], 2)
        return tf.reshape(values, (tf.shape(images)[0], -1))

    one = tf.TensorSpec((None, None, None, channels), tf.uint8)
    many = tf.TensorSpec((None, None, None, None, channels), tf.uint8)
    function = tf.function(measured, autograph=False).get_concrete_function(one, many)
    # Two first calls at once would both prepare the graph, for seconds.
    pixel = tf.zeros((1, 1, 1, channels), tf.uint8)
    function(pixel, pixel[None])
    return function
