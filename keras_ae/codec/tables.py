"""The frequencies of residuals by class of scale: whole numbers that are the same everywhere.

A residual is a value less its prediction. Its distribution is half a Laplace and half a logistic
distribution around zero, of the scales in `SCALES`, which were fitted to photographs.
"""

import functools
from collections.abc import Iterator

import numpy as np

# fmt: off
SCALES = (
    76, 79, 80, 81, 115, 139, 167, 201, 241, 282, 326, 375, 434, 507, 597, 704, 822, 960, 1125,
    1307, 1510, 1735, 1971, 2222, 2528, 2872, 3192, 3536, 3957, 4390, 4806, 5303, 5901, 6505, 7106,
    7700, 8275, 8935, 9678, 10482, 11312, 12189, 13126, 13995, 15084, 16224, 17184, 18563, 20476,
    21946, 23521, 25209, 27018, 28957, 31036, 33263, 35651, 38210, 40952, 43891, 47042, 50418,
    54037, 57915, 62072, 66527, 71302, 76419, 81904, 87783, 94083, 100836, 108073, 115830, 124143,
    133054, 142603, 152838, 163808, 175565, 188166, 201671, 216146, 231660, 248287, 266107, 285207,
    305677, 327616, 351130, 376332, 403343, 432292, 463319, 496573, 532214, 570413, 611354, 655233,
    702261, 752664, 806686, 864584, 926639, 993147, 1064428, 1140826, 1222707, 1310465, 1404522,
    1505329, 1613372, 1729169, 1853277, 1986294, 2128857,
)
# fmt: on
"""The scale of the Laplace distribution by class, in units of 1/1024."""
LOGISTIC_SHARE = 9, 16
"""The scale of the logistic distribution over that of the Laplace distribution, as a fraction."""
PHASES = 16
"""A prediction is known to 1/16: a residual's table depends on the rest, -8/16 to 7/16."""
LIMIT = 24
"""Residuals from -24 to 24 have a symbol each; those below have symbol 0, those above symbol 50."""
SYMBOLS = 2 * LIMIT + 3
MIN_SCALE_SHIFTED = 4096
"""Scales from here on are halved as often as needed: the lowest bits are coded by themselves."""
_ONE = 1 << 30
_FLOOR, _FLOOR_AT_ONE = 64, 4096
"""Of 2**24: what each symbol has at least, and what -1, 0 and 1 have at least."""


def shift_of(scale: int) -> int:
    """The number of low bits that are coded by themselves for a scale in units of 1/1024."""
    return max(0, (scale // MIN_SCALE_SHIFTED).bit_length())


SHIFTS = np.array([shift_of(scale) for scale in SCALES])


@functools.cache
def frequencies() -> np.ndarray:
    """Frequencies by class, phase and symbol: whole numbers as float64 [16 * classes, 51]."""
    tables = [_class_table(scale >> shift_of(scale)) for scale in SCALES]
    return np.array(tables, np.float64).reshape(-1, SYMBOLS)


def _class_table(scale: int) -> np.ndarray:
    laplace = _powers(_decay(scale))
    logistic = _powers(_decay(scale * LOGISTIC_SHARE[0] // LOGISTIC_SHARE[1]))
    # P(X > n / 16) in units of 2**-31, for n >= 0: half of each.
    tails = laplace // 2 + logistic * _ONE // (_ONE + logistic)
    above = np.concatenate([(2 * _ONE - tails[:0:-1]), tails])
    ends = 16 * np.arange(-LIMIT, LIMIT + 2) - 8 - np.arange(-8, 8)[:, None]
    over = above[ends + len(tails) - 1]
    edges = np.pad(over, ((0, 0), (1, 1)), constant_values=((0, 0), (2 * _ONE, 0)))
    table: np.ndarray = (edges[:, :-1] - edges[:, 1:] >> 7) + _FLOOR
    table[:, LIMIT : LIMIT + 3] += _FLOOR_AT_ONE
    return table


def _decay(scale: int) -> int:
    """exp(-1024 / (16 scale)) in units of 2**-30."""
    # (1 - x / 2**20) ** 2**20 by squaring, in units of 2**-60 so that its error is far below one.
    one = 1 << 60
    power = one - (64 * one // scale >> 20)
    for _ in range(20):
        power = power * power >> 60
    return power >> 30


def _powers(decay: int) -> np.ndarray:
    """The powers of a decay per 1/16, int64, as many as there are sixteenths to an edge."""
    return np.array(list(_products(decay, 16 * (LIMIT + 1) + 16)), np.int64)


def _products(decay: int, count: int) -> Iterator[int]:
    power = _ONE
    for _ in range(count):
        yield power
        power = power * decay >> 30
