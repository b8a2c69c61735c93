"""Scores batches of images with all SavedModels and the floors, in one process."""

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
from keras_ae.presets import SERVING_TILE
from keras_ae.saved_model.tiled_metrics import measure_quality
from keras_ae.scores import Table
from keras_ae.scoring.floors import Floors, floor_psnr
from keras_ae.scoring.reading import Example, decode_batch, read_batches

MAX_RECONSTRUCTION_PIXELS = 1 << 23
"""Pixels of the reconstructions that are measured together, at least one model's. They share the
part of SSIM that depends on the originals only."""
THREADS = 2
"""Batches that are scored concurrently, so that single-threaded parts of one batch overlap with the
other batch."""

_tracing = threading.Lock()
_loading = threading.Lock()
_loaded: dict[str, "ServedModel"] = {}
_graphs: dict[str, "_Graph"] = {}


class Scorer:
    """Scores images with SavedModels, in the order of a layout's columns, and floors.

    The arguments are those of `load`, and the linear floors.
    """

    def __init__(
        self,
        paths: Sequence[str],
        floors: Floors,
        channels: int,
        graph_of: Callable[[str], str] = str,
    ):
        self._channels, self._floor_psnr = channels, floor_psnr(floors, channels)
        self._models = load(paths, channels, graph_of)

    def score(self, file: str) -> Iterator[tuple[Table, tuple[int, int]]]:
        """Yields tables of scores of the images of a file, and the images' height and width."""
        yield from map_in_threads(self._table, read_batches(file), THREADS)

    def _table(self, batch: list[Example]) -> tuple[Table, tuple[int, int]]:
        values = self._values(decode_batch(batch, self._channels))
        columns = {by: [example.slices[by] for example in batch] for by in batch[0].slices}
        digests = [example.digest for example in batch]
        sources, pictures = ([getattr(e, name) for e in batch] for name in ("source", "picture"))
        table = scores.make_table(sources, digests, columns, values, pictures)
        return table, (batch[0].height, batch[0].width)

    def _values(self, originals: Any) -> np.ndarray:
        """Maps images, uint8 [N, H, W, C], to scores, float32 [N, width of the layout]."""
        values = [self._floor_psnr(originals)]
        step = max(1, MAX_RECONSTRUCTION_PIXELS // math.prod(originals.shape[:3]))
        for start in range(0, len(self._models), step):
            models = self._models[start : start + step]
            reconstructions = tf.stack([model.reconstruct(originals) for model in models])
            values.append(measure_reconstructions(originals, reconstructions))
        return np.concatenate(values, 1)


def measure_reconstructions(originals: Any, reconstructions: Any) -> np.ndarray:
    """Computes the metrics of reconstructions, in the order of `keras_ae.scores.METRICS`.

    Maps originals, uint8 [N, H, W, C], and the reconstructions of M models, uint8 [M, N, H, W, C],
    to float32 [N, M * metrics].
    """
    height, width, channels = originals.shape[1:]
    with _tracing:
        measured = _measure(channels, metrics.fitting_scales(height, width))
    values: np.ndarray = measured(originals, reconstructions).numpy()
    return values


@cache
def _measure(channels: int, scales: int) -> Any:
    """`measure_reconstructions` as a concrete TensorFlow function."""

    def measured(originals: Any, reconstructions: Any) -> Any:
        mse, ssim, ms_ssim = measure_quality(
            originals, reconstructions, tile=SERVING_TILE, scales=scales
        )
        by_name = {"mse": mse, "psnr": metrics.psnr_from_mse(mse), "ssim": ssim, "ms_ssim": ms_ssim}
        values = tf.stack([tf.transpose(by_name[name]) for name in scores.METRICS], 2)
        return tf.reshape(values, (tf.shape(originals)[0], -1))

    shape = (None, None, None, channels)
    specs = (tf.TensorSpec(shape, tf.uint8), tf.TensorSpec((None, *shape), tf.uint8))
    function = tf.function(measured, autograph=False).get_concrete_function(*specs)
    # The first call optimizes the graph, which takes seconds. Called here, under the lock, no two
    # threads do it at the same time.
    pixel = tf.zeros((1, 1, 1, channels), tf.uint8)
    function(pixel, pixel[None])
    return function


class _Graph:
    """A graph that several SavedModels share, with the weights of one of them at a time.

    The models of a ladder differ only in their weights. Loading and optimizing a graph takes
    seconds, changing the weights takes a millisecond.
    """

    def __init__(self, folder: str):
        self._model = tf.saved_model.load(folder)
        self._functions = {name: self._model.signatures[name] for name in (c.ENCODE, c.DECODE)}
        self._checkpoint = tf.train.Checkpoint(root=self._model)
        self._lock, self._current = threading.Lock(), -1
        self._weights: list[list[Any]] = []

    def add(self, folder: str) -> int:
        """Reads the weights of another SavedModel, and returns their index for `run`."""
        with self._lock:
            self._current = -1
            status = self._checkpoint.read(f"{folder}/variables/variables")
            status.assert_existing_objects_matched()
            self._weights.append([tf.identity(v) for v in self._model.variables_of_the_model])
            self._current = len(self._weights) - 1
            return self._current

    def run(self, weights: int, signature: str, inputs: dict[str, Any]) -> Any:
        """Calls a signature with some weights; concurrent calls wait for each other."""
        tensors = {name: tf.convert_to_tensor(value) for name, value in inputs.items()}
        with self._lock:
            if weights != self._current:
                values = self._weights[weights]
                for variable, value in zip(self._model.variables_of_the_model, values):
                    variable.assign(value)
                self._current = weights
            return self._functions[signature](**tensors)


class ServedModel:
    """The signatures `encode` and `decode` of a SavedModel, with its weights and a graph."""

    def __init__(self, folder: str, graph: _Graph):
        self._graph, self._weights = graph, graph.add(folder)

    def encode(self, images: Any) -> Any:
        """Maps images, uint8 [N, H, W, C], to latents, float32 [N, h, w, c]."""
        return self._graph.run(self._weights, c.ENCODE, {c.IMAGES: images})[c.LATENTS]

    def decode(self, latents: Any) -> Any:
        """Maps latents, float32 [N, h, w, c], to images, uint8 [N, h * stride, w * stride, C]."""
        return self._graph.run(self._weights, c.DECODE, {c.LATENTS: latents})[c.IMAGES]

    def reconstruct(self, images: Any) -> Any:
        """Maps images, uint8 [N, H, W, C], to reconstructions of the same shape."""
        return self.decode(self.encode(images))[:, : images.shape[1], : images.shape[2]]


def load(
    folders: Sequence[str], channels: int, graph_of: Callable[[str], str] = str
) -> list[ServedModel]:
    """Loads SavedModels for images of `channels`, each once per process.

    `graph_of` returns a name of the graph of the SavedModel in a folder. SavedModels with the same
    name share one graph in memory, which is called once to optimize it. By default, each has its
    own.
    """
    with _loading:
        for folder in folders:
            if folder not in _loaded:
                _loaded[folder] = _load_model(folder, graph_of(folder), channels)
        return [_loaded[folder] for folder in folders]


def unload_all() -> None:
    """Frees all models that this process has loaded."""
    with _loading:
        _loaded.clear()
        _graphs.clear()


def _load_model(folder: str, graph_name: str, channels: int) -> ServedModel:
    graph = _graphs.get(graph_name) or _Graph(folder)
    model = ServedModel(folder, graph)
    if graph_name not in _graphs:
        model.reconstruct(np.zeros((1, 1, 1, channels), np.uint8))
        _graphs[graph_name] = graph
    return model
