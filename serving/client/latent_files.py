"""Compression of images to .kae files with a served model, for both clients."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae import contract as c
from keras_ae.codec import images
from keras_ae.codec.images import Model, Target
from keras_ae.errors import DataError, InvalidRequestError

from .images import Image, check_array, read, to_items
from .plans import Plans, RequestPlan
from .prepare import prepare

RunPlan = Callable[[RequestPlan[Any]], Any]
"""Carries out a plan, and waits for its result."""


class LatentFiles:
    """Compresses and decompresses by requests.

    Args:
        plans: makes the plans of requests.
        run_plan: carries them out.
        white: level that becomes white in some image files; see `ReconstructionClient`.
    """

    def __init__(self, plans: Plans, run_plan: RunPlan, white: float | None):
        self._plans, self._run_plan, self._white = plans, run_plan, white

    def compress(self, image: Image, target: Target) -> bytes:
        """See `ReconstructionClient.compress`."""
        images.check(target)
        if not isinstance(image, np.ndarray | bytes | bytearray | memoryview | str | os.PathLike):
            raise InvalidRequestError(
                "expected one image, as an array, bytes or a path; got a "
                f"{type(image).__name__}: call once for each image"
            )
        model = self._model()
        return images.compress(self._read(image, model.channels), model, target)

    def decompress(self, data: bytes | str | os.PathLike[str]) -> np.ndarray:
        """See `ReconstructionClient.decompress`."""
        content = data if isinstance(data, bytes) else read(Path(data))
        return images.decompress(content, self._model())

    def _model(self) -> Model:
        signatures = self._run_plan(self._plans.metadata()).signatures
        shape = signatures[c.ENCODE].inputs[c.IMAGES].shape if c.ENCODE in signatures else None
        if c.DECODE not in signatures or not shape or len(shape) != 4 or shape[3] not in (1, 3):
            raise DataError("the served model has no latents of images: it is not one of keras-ae")
        encode, decode = self._call(c.ENCODE, c.IMAGES), self._call(c.DECODE, c.LATENTS)
        return images.probe(encode, decode, shape[3])

    def _call(self, signature: str, name: str) -> Callable[[np.ndarray], Mapping[str, np.ndarray]]:
        def call(batch: np.ndarray) -> Mapping[str, np.ndarray]:
            outputs: Mapping[str, np.ndarray] = self._run_plan(
                self._plans.predict(signature, {name: batch})
            )
            return outputs

        return call

    def _read(self, image: Image, channels: int) -> np.ndarray:
        """The pixels of an image as the model would decode it, uint8 [H, W, channels]."""
        if isinstance(image, np.ndarray):
            pixels = check_array(image, 3)
            if pixels.shape[2] != channels:
                raise InvalidRequestError(
                    f"expected an image of {channels} channels; got {list(pixels.shape)}"
                )
            return pixels
        (item,), _ = to_items(image)
        from .originals import is_deep, read_original, read_pixels

        data = prepare(read(item), self._white).data
        if not is_deep(data):
            return read_pixels(data, channels)
        # Only the model knows which level is white.
        result = self._run_plan(self._plans.reconstruct(data))[0]
        if result.status:
            raise DataError(result.status)
        pixels, white = read_original(data, result.image, result.mse, self._white)
        if white is None:
            raise DataError(
                "the level of white of this image with 16 bits cannot be found out: give the one "
                "of the training run, as white=LEVEL or --white LEVEL"
            )
        return pixels
