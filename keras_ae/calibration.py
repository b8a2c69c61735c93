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

    Args:
        val_mse: MSE of each val image; NaN does not count.
    """

    def __init__(self, val_mse: Sequence[float]):
        known = np.asarray(val_mse, np.float32)
        known = np.sort(known[~np.isnan(known)])
        kept = min(len(known), QUANTILES)
        ranks = np.round(np.linspace(0, max(len(known) - 1, 0), kept)).astype(int)
        self._values = known[ranks]
        # Between two of them: half-way between the shares that it may be.
        between = (ranks[:-1] + 1 + ranks[1:]) / 2
        self._shares = np.array([0, *between, len(known)], np.float32) / (len(known) + 1)

    def percentile(self, mse: Any) -> Any:
        """float32 tensor [N] of MSE -> float32 [N], 0 to 1; NaN for NaN or without any."""
        import tensorflow as tf

        if not len(self._values):
            return tf.fill(tf.shape(mse), float("nan"))
        below = tf.searchsorted(tf.constant(self._values), mse, side="left")
        share = tf.gather(tf.constant(self._shares), below)
        return tf.where(tf.math.is_nan(mse), mse, share)
