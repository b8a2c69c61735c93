"""What a file of a latent needs from the model: its id, and the quantisation steps."""

import hashlib
import json
import math
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ae.codec.steps import MAX_INDEX, nearest_step
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.models.layers import to_float
from keras_ae.models.linear import PatchPCA

_SIDE = 16
_DELTA = 0.05
_BATCH = 32


class LatentFiles:
    """Adds to latents what a file of them contains, as outputs with a row for each image.

    The values are variables, so that a traced graph can be used for other weights.

    Args:
        model: a model that computes in float32.
        floor: PCA of the training patches, as for `keras_ae.saved_model.export.Exporter`.
    """

    def __init__(self, model: ConvAutoencoder, floor: PatchPCA):
        self._model, self._floor = model, floor
        self._id = tf.Variable("", trainable=False)
        self._steps = tf.Variable(tf.zeros(model.latent_channels, tf.int32), trainable=False)

    @property
    def variables(self) -> list[Any]:
        """The TensorFlow variables to save with a graph that calls the methods."""
        return [self._id, self._steps]

    def update(self) -> None:
        """Computes the values again, from the present weights of the model."""
        self._id.assign(model_id(self._model))
        steps = measure_steps(self._model, self._floor)
        self._steps.assign([nearest_step(step) if step < np.inf else MAX_INDEX for step in steps])

    def ids(self, batch: Any) -> Any:
        """A tensor of N rows -> the id of the model for each, string [N]."""
        return tf.fill(tf.shape(batch)[:1], self._id)

    def steps(self, batch: Any) -> Any:
        """A tensor of N rows -> the indices of the steps for each, int32 [N, c]."""
        return tf.repeat(self._steps[None], tf.shape(batch)[0], axis=0)


def model_id(model: ConvAutoencoder) -> str:
    """Identifies the decoder: the first 8 bytes of a SHA-256, as 16 hexadecimal digits.

    It is over the architecture and the weights, so that it is the same in every export of them,
    and two models of one id decode a latent to the same pixels.

    >>> a, b = (ConvAutoencoder("small", seed=seed) for seed in (0, 1))
    >>> model_id(a) == model_id(ConvAutoencoder("small", seed=0)), model_id(a) == model_id(b)
    (True, False)
    """
    preset = model.preset
    architecture = {
        "architecture": preset.architecture,
        "widths": list(preset.widths),
        "blocks": list(preset.blocks),
        "channels": model.channels,
        "stride": model.stride,
        "latent_channels": model.latent_channels,
    }
    digest = hashlib.sha256(json.dumps(architecture, sort_keys=True).encode())
    for weight in model.decoder.get_weights():
        digest.update(np.ascontiguousarray(weight, "<f4").tobytes())
    return digest.hexdigest()[:16]


def measure_steps(model: ConvAutoencoder, floor: PatchPCA) -> np.ndarray:
    """Measures by how much each channel has to change for one grey level of the images.

    A change by a step at all positions of one channel changes the decoded images by one grey level
    (root mean square), so that the errors of rounding to a common multiple of the steps are equal
    in all channels, which is the best that uniform quantisers of a high rate can do. It is
    measured on patches drawn from the floor's Gaussian, within some per cent of photographs.

    Returns:
        float64 [c]: steps above 0, infinite for a channel that the decoder ignores.
    """
    rng = np.random.default_rng(0)
    latents = np.asarray(model.encode(to_float(_draw_patches(model, floor, rng))))
    deltas = _DELTA * np.maximum(latents.std(axis=(0, 1, 2)), 1e-3)
    signs = rng.choice(np.array([-1, 1], np.float32), latents.shape[:3])
    output = np.asarray(model.decode(latents))
    energy = np.concatenate(
        [
            np.square(np.asarray(model.decode(latents + changes)) - output).sum(axis=(1, 2, 3))
            for changes in _changes(signs, deltas)
        ]
    )
    sensitivity = energy.astype(np.float64) / (np.square(deltas) * signs.size)
    with np.errstate(divide="ignore"):
        steps: np.ndarray = model.stride * math.sqrt(model.channels) / 255 / np.sqrt(sensitivity)
    return steps


def _draw_patches(model: ConvAutoencoder, floor: PatchPCA, rng: np.random.Generator) -> np.ndarray:
    """An image of patches, uint8 [1, H, W, C], with the mean and the covariance of the floor."""
    stride, channels = model.stride, model.channels
    scores = rng.standard_normal((_SIDE**2, len(floor.scales))) * floor.scales
    patches = floor.mean + scores @ floor.components.T
    grid = patches.reshape(_SIDE, _SIDE, stride, stride, channels).transpose(0, 2, 1, 3, 4)
    pixels = grid.reshape(1, _SIDE * stride, _SIDE * stride, channels)
    return np.asarray(np.round(np.clip(pixels, 0, 1) * 255), np.uint8)


def _changes(signs: np.ndarray, deltas: np.ndarray) -> Any:
    """Yields batches of changes [n, h, w, c] of one channel each."""
    single = np.diag(deltas).astype(np.float32)
    for start in range(0, len(deltas), _BATCH):
        yield signs[0, None, :, :, None] * single[start : start + _BATCH, None, None, :]
