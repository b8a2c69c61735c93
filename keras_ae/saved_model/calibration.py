"""The percentile of an image's error among those of the val images, from stored quantiles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

QUANTILES = 1001
"""Maximum number of stored errors. The percentile is exact for up to as many val images, and
accurate to 0.001 for more."""


class Calibration:
    """Computes the share of val images with a lower MSE than a query image (conformal percentile).

    The query image is counted among the val images. Of images of the same distribution, at most
    one in a hundred therefore has a percentile of 0.99 or above, however few the val images are;
    with fewer than 99 of them, none has (conformal p-value, Vovk et al. 2005).

    The quantiles are variables, so that a traced graph can be used for the errors of other models.
    NaN among the errors of the val images is ignored.
    """

    def __init__(self, val_mse: Sequence[float] = ()):
        self._values = tf.Variable(tf.zeros(QUANTILES), trainable=False)
        self._shares = tf.Variable(tf.zeros(QUANTILES + 1), trainable=False)
        self._count = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.assign(val_mse)

    @property
    def variables(self) -> list[Any]:
        """The TensorFlow variables to save with a graph that calls the methods."""
        return [self._values, self._shares, self._count]

    def assign(self, val_mse: Sequence[float]) -> None:
        """Replaces the errors by those of other val images or of another model."""
        errors = np.asarray(val_mse, np.float32)
        errors = np.sort(errors[~np.isnan(errors)])
        quantiles = min(len(errors), QUANTILES)
        ranks = np.round(np.linspace(0, max(len(errors) - 1, 0), quantiles)).astype(int)
        # Between two stored errors the share is only known to an interval: take its middle.
        between = (ranks[:-1] + 1 + ranks[1:]) / 2
        shares = np.array([0, *between, len(errors)], np.float32) / (len(errors) + 1)
        if not quantiles:
            shares = np.array([np.nan], np.float32)
        # Padded with infinity, which no error exceeds.
        values = np.pad(errors[ranks], (0, QUANTILES - quantiles), constant_values=np.inf)
        self._values.assign(values)
        self._shares.assign(np.pad(shares, (0, QUANTILES + 1 - len(shares)), mode="edge"))
        self._count.assign(len(errors))

    def percentile(self, mse: Any) -> Any:
        """MSE, float32 [N] -> percentile 0..1, float32 [N]; NaN for NaN or without val images."""
        below = tf.searchsorted(self._values, mse, side="left")
        share = tf.gather(self._shares, below)
        return tf.where(tf.math.is_nan(mse), mse, share)

    def val_images(self, rows: Any) -> Any:
        """Returns the number of val images behind the percentile in each row, int64 [rows]."""
        return tf.fill([rows], self._count.read_value())
