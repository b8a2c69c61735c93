"""Images to .kae files and back, with the encoder and the decoder of a model."""

import argparse
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from keras_ae import contract as c
from keras_ae.codec import file
from keras_ae.codec.header import Header
from keras_ae.codec.search import compress_to_psnr, compress_to_size
from keras_ae.codec.steps import scale_of_quality
from keras_ae.errors import ConfigurationError, DataError

DEFAULT_QUALITY = 75
Signature = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""A function of a batch of one image or latent; returns outputs by name, with one row each."""


class Model(NamedTuple):
    """The signatures `encode` and `decode` of a model, and what they tell about it.

    Attributes:
        encode: uint8 [1, H, W, C] -> `latents`, `steps` and `model_id`.
        decode: float32 [1, h, w, c] -> `images` and `model_id`.
        channels: 1 or 3.
        id: 8 bytes, see `keras_ae.codec.header.Header`.
        steps: for each channel of the latent, the index of the step of one grey level.
        stride: pixels to a position of the latent, in each direction.
    """

    encode: Signature
    decode: Signature
    channels: int
    id: bytes
    steps: tuple[int, ...]
    stride: int


def probe(encode: Signature, decode: Signature, channels: int) -> Model:
    """Calls both signatures for one pixel, to learn about a model.

    Raises:
        DataError: if the model was exported without what files need, or is another kind of model.
    """
    try:
        encoded = encode(np.zeros((1, 1, 1, channels), np.uint8))
        model_id = _read_id(encoded)
        decoded = decode(np.asarray(encoded[c.LATENTS], np.float32))
        steps = tuple(int(step) for step in encoded[c.STEPS][0])
        model = Model(encode, decode, channels, model_id, steps, decoded[c.IMAGES].shape[1])
    except (LookupError, ValueError) as error:
        raise DataError(
            "the model has no latents that can be stored; if it is one of keras-ae, it was "
            "exported before there were .kae files: export it again, by a run with the same "
            "settings"
        ) from error
    _check_unchanged(decoded, model)
    return model


class Target(NamedTuple):
    """What a file should be like: at most one of these.

    Attributes:
        quality: 1 to 100, `DEFAULT_QUALITY` if nothing is given.
        psnr: least PSNR, in dB.
        max_bytes: most bytes of the file.
    """

    quality: int | None = None
    psnr: float | None = None
    max_bytes: int | None = None


def add_targets(add: Callable[..., argparse.Action]) -> None:
    """Adds the options for what a .kae file should be like."""
    add(
        "--quality",
        type=int,
        metavar="1..100",
        help=f"higher is better and larger; default: {DEFAULT_QUALITY}",
    )
    add("--psnr", type=float, metavar="DB", help="the smallest file with this PSNR")
    add("--bytes", type=int, metavar="N", help="the best file of at most N bytes")


def check(target: Target) -> None:
    """Raises ConfigurationError if a target is contradictory or impossible for any image."""
    given = [f"{name} {value}" for name, value in target._asdict().items() if value is not None]
    if len(given) > 1:
        raise ConfigurationError(f"expected one target for the file; got {' and '.join(given)}")
    if target.quality is not None and not 1 <= target.quality <= 100:
        raise ConfigurationError(f"expected a quality of 1 to 100; got {target.quality}")
    if target.psnr is not None and not 0 < target.psnr <= c.MAX_PSNR:
        raise ConfigurationError(f"expected a PSNR of 0 to {c.MAX_PSNR:g} dB; got {target.psnr:g}")
    if target.max_bytes is not None and target.max_bytes < 1:
        raise ConfigurationError(f"expected at least one byte; got {target.max_bytes}")


def compress(pixels: np.ndarray, model: Model, target: Target) -> bytes:
    """Makes the file of an image.

    Args:
        pixels: uint8 [H, W, C], with as many channels as the model's images.
        model: the model, which `decompress` needs again.
        target: quality, PSNR or size.

    Returns:
        The content of a .kae file.

    Raises:
        ConfigurationError: if the target is invalid or cannot be reached; the message gives the
            bounds.
        DataError: if the served version changes meanwhile.
    """
    check(target)
    outputs = model.encode(pixels[None])
    _check_unchanged(outputs, model)
    latents = outputs[c.LATENTS][0]
    height, width, channels = pixels.shape
    header = Header(model.id, width, height, channels, model.stride, model.steps)
    if target.max_bytes is not None:
        return compress_to_size(latents, header, target.max_bytes)
    if target.psnr is not None:

        def measure(rounded: np.ndarray) -> float:
            return psnr(pixels, _decode(rounded, header, model))

        return compress_to_psnr(latents, header, target.psnr, measure)
    quality = DEFAULT_QUALITY if target.quality is None else target.quality
    return file.compress(latents, header, scale_of_quality(quality))


def decompress(data: bytes, model: Model) -> np.ndarray:
    """Opens a .kae file.

    Returns:
        The image, uint8 [H, W, C].

    Raises:
        DataError: if it is no intact .kae file, or another model wrote it; the message names both.
    """
    header = file.read_header(data)
    if header.model_id != model.id:
        raise DataError(
            f"the file was written with model {header.model_id.hex()}, and this is model "
            f"{model.id.hex()}: only the version that wrote a file can open it; keep that version, "
            "or serve it under a label"
        )
    own = model.channels, model.stride, len(model.steps)
    if (header.image_channels, header.stride, len(header.steps)) != own:
        raise DataError("a damaged .kae file: its sizes are not those of the model that wrote it")
    return _decode(file.decompress(data)[0], header, model)


def psnr(image: np.ndarray, other: np.ndarray) -> float:
    """PSNR in dB of two images, uint8 [H, W, C]; at most `keras_ae.contract.MAX_PSNR`."""
    # Row by row: float copies of a large image would take a gigabyte.
    rows = (np.subtract(one, two, dtype=np.int32) for one, two in zip(image, other, strict=True))
    error = sum(int(np.vdot(row, row)) for row in rows) / image.size
    return min(10 * math.log10(255**2 / error), c.MAX_PSNR) if error else c.MAX_PSNR


def _decode(latents: np.ndarray, header: Header, model: Model) -> np.ndarray:
    outputs = model.decode(latents[None])
    _check_unchanged(outputs, model)
    return np.asarray(outputs[c.IMAGES][0])[: header.height, : header.width]


def _check_unchanged(outputs: Mapping[str, np.ndarray], model: Model) -> None:
    if _read_id(outputs) != model.id:
        raise DataError(
            "the server changed to another version meanwhile: try again, or name a version or label"
        )


def _read_id(outputs: Mapping[str, np.ndarray]) -> bytes:
    return bytes.fromhex(bytes(outputs[c.MODEL_ID][0]).decode())
