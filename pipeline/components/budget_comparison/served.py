"""The SavedModels that are compared, as they are served: what is scored is what would be pushed."""

import json
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ae import contract as c
from pipeline import staging
from pipeline.model_files import SUMMARY

GRAPH = (
    *("preset_settings", "channels", "stride", "latent_channels", "served_tile"),
    "code_fingerprint",
)
"""Of a stage's summary, what its graph follows from; the rest of it is in the weights."""

_loading = threading.Lock()
_loaded: dict[str, "Served"] = {}
_programs: dict[str, "_Program"] = {}


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


def load(folders: Sequence[str], channels: int) -> list[Served]:
    """Loads SavedModels, each once in a process, and calls each graph once.

    Args:
        folders: of the SavedModels.
        channels: of the images that they take.
    """
    with _loading:
        for folder in map(str, folders):
            if folder not in _loaded:
                _loaded[folder] = _serve(folder, channels)
        return [_loaded[str(folder)] for folder in folders]


def forget() -> None:
    """Frees the models that this process has loaded."""
    with _loading:
        _loaded.clear()
        _programs.clear()


def _serve(folder: str, channels: int) -> Served:
    graph = _graph(folder)
    program = _programs.get(graph) or _Program(folder)
    served = Served(folder, program)
    if graph not in _programs:
        served.reconstruct(np.zeros((1, 1, 1, channels), np.uint8))
        _programs[graph] = program
    return served


def _graph(folder: str) -> str:
    """What determines the graph of a SavedModel; its folder, where nothing is noted of it.

    TensorFlow's own fingerprint does not do: it leaves out what the functions compute.
    """
    note = staging.below(staging.parent(folder), SUMMARY)
    if not staging.exists(note):
        return folder
    facts = json.loads(staging.read_text(note))
    return json.dumps([facts[name] for name in GRAPH], sort_keys=True)
