"""The fixed logarithmic grid of quantisation steps, and the qualities that people choose."""

import math

import numpy as np

STEPS_PER_OCTAVE = 64
MAX_INDEX = 4095
UNIT_INDEX = 2048
"""The index of the step 1; the grid reaches from 2**-32 to almost 2**32."""
SCALE_PER_QUALITY = 4


def step_values(indices: np.ndarray) -> np.ndarray:
    """The steps at indices 0..4095 of the grid, float64: 2 ** ((index - 2048) / 64).

    The values are the same on every machine: they come from whole numbers.
    """
    octaves, parts = np.divmod(np.asarray(indices, np.int64) - UNIT_INDEX, STEPS_PER_OCTAVE)
    values: np.ndarray = np.ldexp(_MANTISSAS[parts], octaves - 30)
    return values


def nearest_step(value: float) -> int:
    """The index of the grid's step that is nearest to a positive value."""
    index = UNIT_INDEX + round(STEPS_PER_OCTAVE * math.log2(value))
    return min(max(index, 0), MAX_INDEX)


def scale_of_quality(quality: int) -> int:
    """The scale that a quality from 1 to 100 means: how far all steps move on the grid.

    100 leaves steps as they are: one grey level, see `keras_ae.codec.header.Header`. Each 16 below
    that doubles them.
    """
    return SCALE_PER_QUALITY * (100 - quality)


def quality_of_scale(scale: int) -> int:
    """The nearest quality from 1 to 100 of a scale; 0 for one that is above that of 1."""
    return min(max(100 - round(scale / SCALE_PER_QUALITY), 0), 100)


def _mantissa(part: int) -> int:
    """2 ** (part / 64) in units of 2**-30, rounded down."""
    power = 1 << part + 64 * 30
    for _ in range(6):
        power = math.isqrt(power)
    return power


_MANTISSAS = np.array([float(_mantissa(part)) for part in range(STEPS_PER_OCTAVE)])
