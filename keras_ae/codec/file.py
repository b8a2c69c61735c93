"""Writes and reads .kae files: the quantised latent of one image (format: docs/codec.md)."""

from collections.abc import Callable, Iterator

import numpy as np

from keras_ae.codec.header import Header, check, pack, unpack
from keras_ae.codec.steps import MAX_INDEX, quality_of_scale, step_values
from keras_ae.codec.tiles import MAX_VALUE, MIN_VALUE, Encoder, decode_tile, encode_tile
from keras_ae.errors import ConfigurationError, DataError

TRADE = 0.12
"""Squared error, in squared steps, that is worth a bit: 6 ln 2 / 36, the slope at high rates."""
MAX_TILE_VALUES = 1 << 19


def compress(latents: np.ndarray, header: Header, scale: int = 0) -> bytes:
    """Quantises and codes the latent of an image.

    Args:
        latents: float32 [h, w, c], as `header.latent_shape`.
        header: of the image; its steps are moved by the scale.
        scale: how far, in sixty-fourths of an octave, all steps are moved up; see
            `keras_ae.codec.steps.scale_of_quality`.

    Returns:
        The content of a .kae file.

    Raises:
        ConfigurationError: if latents and header do not fit each other, or cannot be stored.
    """
    return quantize(latents, header, scale)[0]


def quantize(latents: np.ndarray, header: Header, scale: int) -> tuple[bytes, np.ndarray]:
    """As `compress`; returns also the latents that `decompress` will give."""
    steps = tuple(min(max(step + scale, 0), MAX_INDEX) for step in header.steps)
    header = header._replace(steps=steps, quality=quality_of_scale(scale))
    _check(latents, header)
    if not np.isfinite(latents).all():
        raise ConfigurationError("latents must be finite numbers")
    sizes = step_values(np.array(steps))
    data, values = _encode(header, lambda tile: latents[tile] / sizes, TRADE)
    return data, _dequantize(values, sizes)


def decompress(data: bytes) -> tuple[np.ndarray, Header]:
    """Reads the latent of a .kae file.

    Returns:
        Latents, float32 [h, w, c], and the header.

    Raises:
        DataError: if the data are no .kae file of this version, were changed or truncated, or
            contradict themselves; the message says which.
    """
    values, header = decode(data)
    return _dequantize(values, step_values(np.array(header.steps))), header


def read_header(data: bytes) -> Header:
    """Reads the header of a file after the checksum was found right.

    Raises:
        DataError: as `decompress`, for what can be seen without decoding.
    """
    return unpack(data)[0]


def encode(values: np.ndarray, header: Header) -> bytes:
    """Codes values that are quantised already, int32 [h, w, c], without loss.

    Raises:
        ConfigurationError: as `compress`.
    """
    _check(values, header)
    if values.min() < MIN_VALUE or values.max() > MAX_VALUE:
        raise ConfigurationError("a value is outside the range of 32 bits")
    return _encode(header, lambda tile: values[tile].astype(np.float64), 0.0)[0]


def decode(data: bytes) -> tuple[np.ndarray, Header]:
    """Reads the quantised values of a file, int32 [h, w, c], and the header.

    Raises:
        DataError: as `decompress`.
    """
    header, code = unpack(data)
    shape = header.latent_shape
    tiles = list(_tiles(shape))
    table = 4 * (len(tiles) - 1)
    if len(code) < table or len(code) % 4:
        raise DataError(f"a damaged .kae file: {len(code)} bytes are no code of {len(tiles)} tiles")
    counts = np.frombuffer(code, "<u4", len(tiles) - 1).astype(np.int64)
    words = np.frombuffer(code, "<u4", offset=table).astype(np.uint32)
    if counts.sum() > len(words):
        raise DataError("a damaged .kae file: its tiles are longer than the file")
    values = np.empty(shape, np.int32)
    try:
        for tile, part in zip(tiles, np.split(words, np.cumsum(counts))):
            values[tile] = decode_tile(part, values[tile].shape)
    except DataError as error:
        raise DataError(f"a damaged .kae file: {error}") from error
    return values, header


def _encode(
    header: Header, levels: Callable[[tuple[slice, slice]], np.ndarray], trade: float
) -> tuple[bytes, np.ndarray]:
    values = np.empty(header.latent_shape, np.int32)
    code = []
    for tile in _tiles(header.latent_shape):
        encoder = Encoder()
        values[tile] = encode_tile(levels(tile), trade, encoder)
        code.append(encoder.words)
    counts = np.array([len(words) for words in code[:-1]])
    return pack(header, b"".join(part.astype("<u4").tobytes() for part in [counts, *code])), values


def tile_side(channels: int) -> int:
    """The largest power of two, up to 512, whose square is at most 2**19 values."""
    side = 512
    while side * side * channels > MAX_TILE_VALUES:
        side //= 2
    return side


def _tiles(shape: tuple[int, int, int]) -> Iterator[tuple[slice, slice]]:
    """Squares of a latent, row by row; those at the right and the bottom may be smaller."""
    side = tile_side(shape[2])
    for top in range(0, shape[0], side):
        for left in range(0, shape[1], side):
            yield slice(top, min(top + side, shape[0])), slice(left, min(left + side, shape[1]))


def _check(latents: np.ndarray, header: Header) -> None:
    check(header)
    if latents.shape != header.latent_shape:
        raise ConfigurationError(
            f"the latent of this image must have the shape {header.latent_shape}, "
            f"not {latents.shape}"
        )


def _dequantize(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    latents: np.ndarray = (values * sizes).astype(np.float32)
    return latents
