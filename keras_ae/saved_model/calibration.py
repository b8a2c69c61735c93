"""Where an image's error lies among those of the val images, from a few quantiles of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

QUANTILES = 1001
"""Most numbers that are kept; the share is exact to 0.001 with them, and exact if all fit."""


class Calibration:
    """The share of val images with a lower MSE, the asked image counted among them.

    Of images of the same kind at most one in a hundred so lies at 0.99 or above, however few the
    val images are: with fewer than 99 of them none does (conformal p-value, Vovk et al. 2005).

    Its numbers are variables, so that a graph that is traced once serves for other ones.

    Args:
        val_mse: MSE of each val image; NaN does not count.
    """

    def __init__(self, val_mse: Sequence[float] = ()):
        import tensorflow as tf

        self._values = tf.Variable(tf.zeros(QUANTILES), trainable=False)
        self._shares = tf.Variable(tf.zeros(QUANTILES + 1), trainable=False)
        self.assign(val_mse)

    @property
    def variables(self) -> list[Any]:
        """TensorFlow variables, to be saved with a graph that calls `percentile`."""
        return [self._values, self._shares]

    def assign(self, val_mse: Sequence[float]) -> None:
        """Takes the errors of other val images, or of the same ones by another model."""
        known = np.asarray(val_mse, np.float32)
        known = np.sort(known[~np.isnan(known)])
        kept = min(len(known), QUANTILES)
        ranks = np.round(np.linspace(0, max(len(known) - 1, 0), kept)).astype(int)
        # Between two of them: half-way between the shares that it may be.
        between = (ranks[:-1] + 1 + ranks[1:]) / 2
        shares = np.array([0, *between, len(known)], np.float32) / (len(known) + 1)
        if not kept:
            shares = np.array([np.nan], np.float32)
        # No error is above what fills the rest.
        values = np.pad(known[ranks], (0, QUANTILES - kept), constant_values=np.inf)
        self._values.assign(values)
        self._shares.assign(np.pad(shares, (0, QUANTILES + 1 - len(shares)), mode="edge"))

    def percentile(self, mse: Any) -> Any:
        """float32 tensor [N] of MSE -> float32 [N], 0 to 1; NaN for NaN or without any."""
        import tensorflow as tf

        below = tf.searchsorted(self._values, mse, side="left")
        share = tf.gather(self._shares, below)
        return tf.where(tf.math.is_nan(mse), mse, share)
