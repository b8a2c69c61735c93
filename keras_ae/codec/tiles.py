"""Codes the values of a tile with a range coder, front by front."""

import functools
from typing import Any, Protocol

import numpy as np

from keras_ae.codec.model import FRACTION_BITS, TileModel
from keras_ae.codec.tables import LIMIT, PHASES, SHIFTS, SYMBOLS, frequencies
from keras_ae.errors import DataError
from keras_ae.imports import from_extra

MIN_VALUE, MAX_VALUE = -(2**31), 2**31 - 1
_HALF = 1 << FRACTION_BITS >> 1
_POWERS = 1 << np.arange(1, 48)
# Bits that the model says nothing about are coded four at a time; fewer are the last of a value.
_UNIFORM = np.array([[1.0] * 2**bits + [0.0] * (16 - 2**bits) for bits in range(5)])
_MISFIT = "the code is not that of its values: the sizes do not fit it"
_ESCAPE_BITS = 34
_ESCAPES = np.array([[2.0 ** (_ESCAPE_BITS - bits) for bits in range(_ESCAPE_BITS + 1)]])


def _stream() -> Any:
    """The coder's module; what only looks at headers does not need it."""
    with from_extra("client", "coding latents"):
        from constriction import stream

    return stream


class Coder(Protocol):
    """Codes a symbol for each row of tables: N symbols, int32, and frequencies, float64 [N, S]."""

    def code(self, symbols: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """Returns the symbols: the given ones, or those that were decoded."""


class Encoder:
    """Writes symbols; `words` are the code so far."""

    def __init__(self) -> None:
        stream = _stream()
        self._encoder = stream.queue.RangeEncoder()
        self._family = stream.model.Categorical(perfect=False)

    def code(self, symbols: np.ndarray, tables: np.ndarray) -> np.ndarray:
        self._encoder.encode(symbols, self._family, tables)
        return symbols

    @property
    def words(self) -> np.ndarray:
        words: np.ndarray = self._encoder.get_compressed()
        return words


class Decoder:
    """Reads symbols, and writes them again to see that the code is what an encoder writes."""

    def __init__(self, words: np.ndarray) -> None:
        self._words, stream = words, _stream()
        self._decoder = stream.queue.RangeDecoder(words)
        self._encoder = stream.queue.RangeEncoder()
        self._family = stream.model.Categorical(perfect=False)

    def code(self, symbols: np.ndarray, tables: np.ndarray) -> np.ndarray:
        try:
            decoded: np.ndarray = self._decoder.decode(self._family, tables)
        except AssertionError as error:
            raise DataError(_MISFIT) from error
        self._encoder.encode(decoded, self._family, tables)
        if self._encoder.num_words() > len(self._words):
            raise DataError("the code ends before the last value: the sizes do not fit it")
        return decoded

    def close(self) -> None:
        """Raises DataError if words are left, or are not those of the decoded values."""
        if not np.array_equal(self._encoder.get_compressed(), self._words):
            raise DataError(_MISFIT)


def encode_tile(levels: np.ndarray, trade: float, encoder: Encoder) -> np.ndarray:
    """Rounds and codes the levels of a tile.

    Args:
        levels: latents in units of their step, float64 [h, w, c]; whole numbers are kept.
        trade: how much squared error, in squared steps, a bit is worth. With 0, levels are rounded
            to the nearest value.

    Returns:
        The values, int64 [h, w, c], in -2**31..2**31-1.
    """
    values = np.empty(levels.shape, np.int64)
    model = TileModel(*levels.shape)
    for front in model.fronts():
        predictions, classes = model.predict()
        chosen = _round(levels[front], predictions, classes, trade)
        base, rest = _split(predictions)
        _code(encoder, classes, rest, chosen - base)
        values[front] = chosen
        model.update(chosen)
    return values


def decode_tile(words: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Decodes the values of a tile, int64 [h, w, c], from its words, uint32.

    Raises:
        DataError: if the words are not exactly what the encoder writes for a tile of this shape.
    """
    decoder = Decoder(words)
    values = np.empty(shape, np.int64)
    model = TileModel(*shape)
    for front in model.fronts():
        predictions, classes = model.predict()
        base, rest = _split(predictions)
        decoded = base + _code(decoder, classes, rest, np.zeros_like(base))
        if decoded.min() < MIN_VALUE or decoded.max() > MAX_VALUE:
            raise DataError("a value is outside the range of 32 bits")
        values[front] = decoded
        model.update(decoded)
    decoder.close()
    return values


def _split(predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest values, and what is left of the predictions, -8 to 7 sixteenths."""
    base = predictions + _HALF >> FRACTION_BITS
    return base, predictions - (base << FRACTION_BITS)


def _code(coder: Coder, classes: np.ndarray, rest: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Codes residuals, or decodes and returns them."""
    shifts = SHIFTS.take(classes)
    half = 1 << shifts >> 1
    phases = np.where(shifts, rest + _HALF >> shifts, rest) + _HALF
    shifted = residuals + half >> shifts
    symbols = np.minimum(np.maximum(shifted, -LIMIT - 1), LIMIT + 1) + (LIMIT + 1)
    symbols = coder.code(
        symbols.astype(np.int32), frequencies().take(PHASES * classes + phases, 0)
    ).astype(np.int64)
    bits = shifts.copy()
    escaped = np.flatnonzero(np.abs(symbols - (LIMIT + 1)) == LIMIT + 1)
    high = np.ones(len(escaped), np.int64)
    if len(escaped):
        excess = np.maximum(np.abs(shifted[escaped]) - LIMIT, 1)
        lengths = np.searchsorted(_POWERS, excess, side="right").astype(np.int32)
        tables = _ESCAPES.repeat(len(escaped), 0)
        lengths = coder.code(lengths, tables).astype(np.int64)
        bits[escaped] += lengths
        high <<= lengths
    low = (residuals + half) & (1 << shifts) - 1
    if len(escaped):
        low[escaped] |= (excess - high) << shifts[escaped]
    if bits.any():
        low = _code_bits(coder, low, bits)
    joined = _join(symbols, low, shifts, escaped, high)
    joined -= half
    return joined


def _join(
    symbols: np.ndarray, low: np.ndarray, shifts: np.ndarray, escaped: np.ndarray, high: np.ndarray
) -> np.ndarray:
    shifted: np.ndarray = symbols - (LIMIT + 1)
    at = shifts[escaped]
    excess = high + (low[escaped] >> at)
    shifted[escaped] = np.sign(shifted[escaped]) * (excess + LIMIT)
    shifted <<= shifts
    shifted += low & (1 << shifts) - 1
    return shifted


def _code_bits(coder: Coder, numbers: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Codes the lowest bits of numbers, the highest four of them first."""
    coded: np.ndarray = np.zeros_like(numbers)
    while (some := np.flatnonzero(bits)).size:
        count = np.minimum(bits[some], 4)
        bits[some] -= count
        symbols = numbers[some] >> bits[some] & (1 << count) - 1
        symbols = coder.code(symbols.astype(np.int32), _UNIFORM[count])
        coded[some] = coded[some] << count | symbols
    return coded


@functools.cache
def _costs() -> np.ndarray:
    """Bits by class, phase and symbol, float32; only what is worth writing depends on them."""
    tables = frequencies()
    costs: np.ndarray = np.log2(tables.sum(-1, keepdims=True)) - np.log2(tables)
    return costs.astype(np.float32)


def _round(
    levels: np.ndarray, predictions: np.ndarray, classes: np.ndarray, trade: float
) -> np.ndarray:
    """Rounds to the nearest value, or the next one if that is cheaper by more than its error."""
    nearest = np.minimum(np.maximum(np.rint(levels), MIN_VALUE), MAX_VALUE)
    chosen: np.ndarray = nearest.astype(np.int64)
    if not trade:
        return chosen
    base, rest = _split(predictions)
    other = chosen + np.where(levels > nearest, 1, -1)
    both = np.stack([chosen, other])
    residuals = both - base
    known = (np.abs(residuals).max(0) <= LIMIT) & (SHIFTS.take(classes) == 0)
    tables = (PHASES * classes + rest + _HALF) * SYMBOLS + LIMIT + 1
    cost = trade * _costs().take(tables + residuals * known)
    cost += np.square(both - levels)
    better = known & (cost[1] < cost[0])
    chosen[better] = other[better]
    return chosen
