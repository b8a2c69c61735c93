"""The adaptive model of a tile: from decoded neighbours, where a value is expected and how far off.

All arithmetic is on integers (int64), so that every machine computes the same. The values of a tile
are coded in fronts: position (row, column) of channel c is in front `column + 2 row + 3 c`. What a
value is predicted from (its neighbours to the left and above, and those on all four sides in the
channels before) lies in earlier fronts, so that a front is computed at once.
"""

from collections.abc import Iterator

import numpy as np

from keras_ae.codec.tables import SCALES

FRACTION_BITS = 4
"""Predictions are in units of 1/16."""
WEIGHT_BITS = 14
MAX_VALUE = 4096
"""Larger magnitudes are clipped where predictions are made from them, so that sums of products fit
in 64 bits; if they ever do not, they wrap around, on every machine alike."""
MAX_WEIGHT = 4 << WEIGHT_BITS
MAX_ERROR = 4095
PREDICTION_SHIFT = WEIGHT_BITS - FRACTION_BITS
UPDATES = 12
"""The weights are improved when a twelfth of the values came after the last time."""
SWEEPS = 2
CLASS_OFFSET, CLASS_SHIFT = 36, 1

# Neighbours as (rows, columns) from the value.
OWN = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0))
CROSS = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0))
SOURCES = 4
"""How many of the first channels later ones are predicted from."""
OWN_FEATURES = 5
ERROR_WEIGHTS = np.array([4, 4, 2, 2, 1, 1])
ERROR_OFFSET = 205
VALUE_RIDGE, SCALE_RIDGE = 160, 65536
VALUE_PRIOR = 3000
"""The initial weight of the sum of left and above, the only one that is not zero."""
SCALE_PRIOR = np.array(
    [2500, 2400, 650, 1000, 1100, 1100, 2350, -400, 2040, -850, 2330, 1100, 1100, -900]
)


def _logarithms(size: int) -> np.ndarray:
    """16 log2((v + 5) / 16) for v from 0, by straight lines between powers of two; int64 [size]."""
    values = np.arange(5, size + 5)
    exponents = np.searchsorted(1 << np.arange(1, 32), values, side="right")
    return 16 * (exponents - 5) + (16 * values >> exponents)


LOGARITHMS = _logarithms(65536)
_RECIPROCALS = 65536 // np.maximum(np.arange(1024), 1)

Front = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows, columns and channels of the values of a front."""


class Regression:
    """Linear regressions by least squares, one for each channel, updated as values arrive.

    Each update adds to the normal equations and sweeps over the weights (Gauss-Seidel). Weights
    are in units of 2**-14. A second set of weights uses only the first `few` features.
    """

    def __init__(self, channels: int, prior: np.ndarray, ridge: int, few: int, sweeps: int) -> None:
        self.weights = np.tile(prior, (2 if few else 1, channels, 1))
        self._gram = np.tile(ridge * np.eye(len(prior), dtype=np.int64), (channels, 1, 1))
        self._target = np.tile(ridge * prior, (channels, 1))
        self._sweeps = sweeps
        # Views, because making them takes as long as computing with them.
        parts = [self.weights[: 2 if k < few else 1] for k in range(len(prior))]
        self._equations = [
            (self._target[:, k], self._gram[:, k], self._gram[:, k, k], part, part[:, :, k])
            for k, part in enumerate(parts)
        ]

    def add(self, channel: int, features: np.ndarray, values: np.ndarray) -> None:
        """Adds N observations of a channel: features [K, N] and values [N], int64."""
        self._gram[channel] += np.einsum("kn,ln->kl", features, features)
        self._target[channel] += np.einsum("kn,n->k", features, values) << WEIGHT_BITS

    def solve(self) -> None:
        """Moves the weights towards the solution."""
        for _ in range(self._sweeps):
            for target, row, diagonal, weights, weight in self._equations:
                weight += (target - np.vecdot(row, weights)) // diagonal
            np.minimum(np.maximum(self.weights, -MAX_WEIGHT), MAX_WEIGHT, out=self.weights)


class TileModel:
    """Model of one tile of h x w positions of c channels."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        row, slots = width + 4, channels + 2
        steps = np.array([row * slots, slots])
        size = (height + 3) * row * slots
        self._values = np.zeros(size, np.int64)
        # Of residuals' magnitudes; the second half is summed over channels.
        self._logs = np.zeros(2 * size, np.int64)
        self._size = size
        self._errors = np.zeros((2, size), np.int64)
        self._geometry = height, width, row, slots
        self._rows, self._channels = np.arange(height), np.arange(channels)[:, None]
        self._own = (np.array(OWN) @ steps)[:, None]
        self._cross = (np.array(CROSS) @ steps)[:, None]
        offsets = (self._own, size - 1 + self._cross, [[-1], [-2]])
        self._log_offsets = np.concatenate(offsets)
        self._sources = min(SOURCES, channels - 1)
        # By source and channel; a source that is no earlier channel is read where all is zero.
        sources = np.arange(self._sources)[:, None]
        self._near = np.where(sources < self._channels[:, 0], sources, -1) - self._channels[:, 0]
        prior = np.zeros(OWN_FEATURES + 5 * self._sources, np.int64)
        prior[0] = VALUE_PRIOR
        self._value = Regression(channels, prior, VALUE_RIDGE, OWN_FEATURES, SWEEPS)
        self._scale = Regression(channels, SCALE_PRIOR, SCALE_RIDGE, 0, 1)
        self._pending: list[tuple[np.ndarray, ...]] = []
        self._seen = self._solved = 0

    def fronts(self) -> Iterator[Front]:
        """The positions of each front, by channel and row; every position is in one of them."""
        height, width, row, slots = self._geometry
        for number in range(width + 2 * (height - 1) + 3 * (len(self._channels) - 1)):
            columns = number - 2 * self._rows - 3 * self._channels
            channel, i = np.nonzero((columns >= 0) & (columns < width))
            if not len(i):
                continue
            j = columns[channel, i]
            self._channel = channel
            self._index = ((i + 2) * row + j + 2) * slots + channel + 2
            yield i, j, channel

    def predict(self) -> tuple[np.ndarray, np.ndarray]:
        """The expected values at this front in units of 1/16, and their classes of scale."""
        index, channel = self._index, self._channel
        own = index + self._own
        features = self._features(index, channel, own)
        weights = self._value.weights.take(channel, 1)
        both = np.empty((2, len(index)), np.int64)
        both[0] = np.vecdot(weights[0], features.T)
        both[1] = np.vecdot(weights[1, :, :OWN_FEATURES], features[:OWN_FEATURES].T)
        both = (both + (1 << PREDICTION_SHIFT >> 1)) >> PREDICTION_SHIFT
        errors = np.einsum("k,pkn->pn", ERROR_WEIGHTS, self._errors.take(own, 1)) + ERROR_OFFSET
        predictions = (both[0] * errors[1] + both[1] * errors[0]) // (errors[0] + errors[1])
        scales = self._scale_features(index, channel)
        log = np.vecdot(self._scale.weights[0].take(channel, 0), scales.T) >> WEIGHT_BITS
        classes = np.maximum(log + CLASS_OFFSET >> CLASS_SHIFT, 0)
        self._state = features, scales, both, predictions
        return predictions, np.minimum(classes, len(SCALES) - 1)

    def _features(self, index: np.ndarray, channel: np.ndarray, own: np.ndarray) -> np.ndarray:
        features = np.empty((OWN_FEATURES + 5 * self._sources, len(index)), np.int64)
        left, above, above_left, above_right = self._values.take(own[:4])
        features[0] = left + above
        features[1] = left - above
        features[2] = above_right - above
        features[3] = 2 * above_left - features[0]
        features[4] = 4
        near = index + self._near.take(channel, 1) + self._cross[:, None]
        here, left, right, above, below = self._values.take(near)
        cross = features[OWN_FEATURES:].reshape(5, self._sources, len(index))
        cross[0] = here
        np.subtract(right, left, out=cross[1])
        np.subtract(below, above, out=cross[2])
        here <<= 1
        np.subtract(right + left, here, out=cross[3])
        np.subtract(below + above, here, out=cross[4])
        return features

    def _scale_features(self, index: np.ndarray, channel: np.ndarray) -> np.ndarray:
        features = np.empty((len(SCALE_PRIOR), len(index)), np.int64)
        self._logs.take(index + self._log_offsets, out=features[:13], mode="clip")
        features[6:11] *= _RECIPROCALS.take(channel)
        features[6:11] >>= 16
        features[13] = 32
        return features

    def update(self, values: np.ndarray) -> None:
        """Learns the values of the front that was predicted last."""
        index, channel = self._index, self._channel
        features, scales, both, predictions = self._state
        clipped = np.minimum(np.maximum(values, -MAX_VALUE), MAX_VALUE)
        self._values[index] = clipped
        scaled = values << FRACTION_BITS
        logs = LOGARITHMS.take(np.minimum(np.abs(scaled - predictions), len(LOGARITHMS) - 1))
        self._logs[index] = logs
        index_of_sum = index + self._size
        self._logs[index_of_sum] = self._logs.take(index_of_sum - 1) + logs
        self._errors[:, index] = np.minimum(np.abs(scaled - both), MAX_ERROR) ** 2
        self._pending.append((channel, features, scales, clipped, logs))
        self._seen += len(index)
        if UPDATES * (self._seen - self._solved) >= self._seen:
            self._learn()

    def _learn(self) -> None:
        channel, features, scales, values, logs = (
            np.concatenate(parts, axis=-1) for parts in zip(*self._pending)
        )
        order = np.argsort(channel, kind="stable")
        features, scales, values, logs = (
            part.take(order, -1) for part in (features, scales, values, logs)
        )
        start = 0
        for c, count in enumerate(np.bincount(channel).tolist()):
            if count:
                chosen = slice(start, start + count)
                self._value.add(c, features[:, chosen], values[chosen])
                self._scale.add(c, scales[:, chosen], logs[chosen])
                start += count
        self._value.solve()
        self._scale.solve()
        self._pending = []
        self._solved = self._seen
