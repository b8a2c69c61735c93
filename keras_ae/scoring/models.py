"""All models, as they are served, and floors on batches of images, in one process."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ae import contract as c
from keras_ae import metrics, scores
from keras_ae.concurrency import map_in_threads
from keras_ae.saved_model.tiled_metrics import measure_quality
from keras_ae.saved_model.tiling import SERVING_TILE
from keras_ae.scores import Table
from keras_ae.scoring.floors import Floors, psnr_of
from keras_ae.scoring.reading import Example, pixels, read

TOGETHER = 1 << 23
"""Pixels of the reconstructions that are compared with their originals together, if one has not
more: they share the originals' side of SSIM."""
THREADS = 2
"""Batches at a time: what one core does for a batch hides behind what another does for the next."""

_tracing = threading.Lock()
_loading = threading.Lock()
_loaded: dict[str, "Served"] = {}
_programs: dict[str, "_Program"] = {}


class Models:
    """Every model, loaded, and the floors.

    Args:
        paths: folders of the SavedModels, in the order of a layout's columns.
        floors: the linear floors.
        channels: of the images, 1 or 3.
        graph_of: as for `load`.
    """

    def __init__(
        self,
        paths: Sequence[str],
        floors: Floors,
        channels: int,
        graph_of: Callable[[str], str] = str,
    ):
        self._channels, self._floors = channels, psnr_of(floors, channels)
        self._models = load(paths, channels, graph_of)

    def score(self, file: str) -> Iterator[tuple[Table, tuple[int, int]]]:
        """Yields the scores of the images of a file in tables, and their height and width."""
        yield from map_in_threads(self._table, read(file), THREADS)

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
        mse, ssim, ms_ssim = measure_quality(images, several, tile=SERVING_TILE, scales=scales)
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


class _Program:
    """A graph in memory, which computes with the weights of one SavedModel at a time.

    The budgets of a ladder differ in nothing but their weights, and to load and prepare a graph
    takes seconds, where to change the weights takes a millisecond.

    Args:
        folder: of one of the SavedModels that have this graph.
    """

    def __init__(self, folder: str):
        self._model = tf.saved_model.load(folder)
        self._functions = {name: self._model.signatures[name] for name in (c.ENCODE, c.DECODE)}
        self._restored = tf.train.Checkpoint(root=self._model)
        self._lock, self._current = threading.Lock(), -1
        self._weights: list[list[Any]] = []

    def add(self, folder: str) -> int:
        """Reads the weights of another SavedModel; returns what `run` knows them by."""
        with self._lock:
            self._current = -1
            read = self._restored.read(f"{folder}/variables/variables")
            read.assert_existing_objects_matched()
            self._weights.append([tf.identity(v) for v in self._model.variables_of_the_model])
            self._current = len(self._weights) - 1
            return self._current

    def run(self, weights: int, signature: str, **inputs: Any) -> dict[str, Any]:
        """Calls a signature; two threads one after the other, each on all cores."""
        with self._lock:
            if weights != self._current:
                values = self._weights[weights]
                for variable, value in zip(self._model.variables_of_the_model, values):
                    variable.assign(value)
                self._current = weights
            return dict(self._functions[signature](**inputs))


class Served:
    """The signatures `encode` and `decode` of a SavedModel, which go tile by tile.

    Args:
        folder: of the SavedModel.
        program: its graph.
    """

    def __init__(self, folder: str, program: _Program):
        self._program, self._weights = program, program.add(folder)

    def encode(self, images: Any) -> Any:
        """uint8 [N, H, W, C] -> latents, float32 [N, h, w, c]."""
        inputs = {c.IMAGES: tf.convert_to_tensor(images)}
        return self._program.run(self._weights, c.ENCODE, **inputs)[c.LATENTS]

    def decode(self, latents: Any) -> Any:
        """Latents, float32 [N, h, w, c] -> uint8 [N, h * stride, w * stride, C]."""
        inputs = {c.LATENTS: tf.convert_to_tensor(latents)}
        return self._program.run(self._weights, c.DECODE, **inputs)[c.IMAGES]

    def reconstruct(self, images: Any) -> Any:
        """uint8 [N, H, W, C] -> the same shape."""
        return self.decode(self.encode(images))[:, : images.shape[1], : images.shape[2]]


def load(
    folders: Sequence[str], channels: int, graph_of: Callable[[str], str] = str
) -> list[Served]:
    """Loads SavedModels, each once in a process, and calls each graph once.

    Args:
        folders: of the SavedModels.
        channels: of the images that they take.
        graph_of: names the graph of the SavedModel in a folder: those of one name share what is
            loaded but for their weights. By default each has its own.
    """
    with _loading:
        for folder in map(str, folders):
            if folder not in _loaded:
                _loaded[folder] = _serve(folder, graph_of(folder), channels)
        return [_loaded[str(folder)] for folder in folders]


def forget() -> None:
    """Frees the models that this process has loaded."""
    with _loading:
        _loaded.clear()
        _programs.clear()


def _serve(folder: str, graph: str, channels: int) -> Served:
    program = _programs.get(graph) or _Program(folder)
    served = Served(folder, program)
    if graph not in _programs:
        served.reconstruct(np.zeros((1, 1, 1, channels), np.uint8))
        _programs[graph] = program
    return served
