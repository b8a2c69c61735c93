"""The SavedModels that are compared, as they are served: what is scored is what would be pushed."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ae import contract as c

_loaded: dict[str, "Served"] = {}
_loading = threading.Lock()


class Served:
    """The signatures `encode` and `decode` of a SavedModel, which go tile by tile.

    Args:
        folder: of the SavedModel.
    """

    def __init__(self, folder: str):
        self._model = tf.saved_model.load(folder)
        self._encode, self._decode = (self._model.signatures[n] for n in (c.ENCODE, c.DECODE))

    def encode(self, images: Any) -> Any:
        """uint8 [N, H, W, C] -> latents, float32 [N, h, w, c]."""
        return self._encode(**{c.IMAGES: tf.convert_to_tensor(images)})[c.LATENTS]

    def decode(self, latents: Any) -> Any:
        """Latents, float32 [N, h, w, c] -> uint8 [N, h * stride, w * stride, C]."""
        return self._decode(**{c.LATENTS: tf.convert_to_tensor(latents)})[c.IMAGES]

    def reconstruct(self, images: Any) -> Any:
        """uint8 [N, H, W, C] -> the same shape."""
        return self.decode(self.encode(images))[:, : images.shape[1], : images.shape[2]]


def load(folders: Sequence[str], channels: int) -> list[Served]:
    """Loads SavedModels, each once in a process, and calls each once.

    Two at a time: loading and the first call of a signature use one core for a second or two.

    Args:
        folders: of the SavedModels.
        channels: of the images that they take.
    """

    def ready(folder: str) -> Served:
        with _loading:
            if folder in _loaded:
                return _loaded[folder]
        served = Served(folder)
        served.reconstruct(np.zeros((1, 1, 1, channels), np.uint8))
        with _loading:
            return _loaded.setdefault(folder, served)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(ready, map(str, folders)))


def forget() -> None:
    """Frees the models that this process has loaded."""
    with _loading:
        _loaded.clear()
