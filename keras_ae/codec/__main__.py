"""Compresses and decompresses images with a SavedModel, without a server. It needs TensorFlow."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from keras_ae import contract as c
from keras_ae.codec import images
from keras_ae.codec.file import read_header
from keras_ae.codec.header import describe
from keras_ae.errors import DataError, KerasAEError, StorageError


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        _check_paths(arguments)
        if arguments.command == "compress":
            output = compress(arguments)
            text = describe(read_header(output), len(output))
        else:
            output = decompress(arguments)
            text = f"{len(output):,} bytes"
        _write(arguments.output, output)
    except KerasAEError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"{arguments.output}: {text}")
    return 0


def compress(arguments: argparse.Namespace) -> bytes:
    """Makes the .kae file of an image file."""
    from keras_ae.datasets.images.levels import White
    from keras_ae.datasets.images.normalize import decode
    from keras_ae.saved_model.metadata import read_metadata

    target = images.Target(arguments.quality, arguments.psnr, arguments.bytes)
    images.check(target)
    data, model = _read(arguments.input), _load(arguments.model)
    white = White(read_metadata(str(arguments.model)).white, arguments.white)
    return images.compress(decode(data, model.channels, white=white), model, target)


def decompress(arguments: argparse.Namespace) -> bytes:
    """Makes the PNG of a .kae file."""
    import tensorflow as tf

    data = _read(arguments.input)
    png: bytes = tf.io.encode_png(images.decompress(data, _load(arguments.model))).numpy()
    return png


def _load(path: Path) -> images.Model:
    import tensorflow as tf

    from keras_ae.saved_model.comparable import read_channels

    try:
        channels = read_channels(path)
        signatures = tf.saved_model.load(str(path)).signatures
    except (DataError, tf.errors.OpError, OSError, ValueError) as error:
        reason = f"{path} cannot be used: {error}; expected the folder of a version, such as "
        raise DataError(f"{reason}serving/keras_ae/1") from error
    if not {c.ENCODE, c.DECODE} <= set(signatures) or channels not in (1, 3):
        raise DataError(f"{path} has no latents of images: it is not a model of keras-ae")

    def call(signature: str, name: str) -> Callable[[np.ndarray], Mapping[str, np.ndarray]]:
        function = signatures[signature]

        def run(batch: np.ndarray) -> Mapping[str, np.ndarray]:
            outputs = function(**{name: tf.constant(batch)})
            return {output: tensor.numpy() for output, tensor in outputs.items()}

        return run

    return images.probe(call(c.ENCODE, c.IMAGES), call(c.DECODE, c.LATENTS), channels)


def _check_paths(arguments: argparse.Namespace) -> None:
    suffix = ".kae" if arguments.command == "compress" else ".png"
    if arguments.output.suffix.lower() != suffix:
        raise DataError(f"expected an output file that ends in {suffix}; got {arguments.output}")
    if arguments.output.exists() and arguments.output.samefile(arguments.input):
        raise DataError(f"{arguments.output} is the input: write to another file")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.incoming")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m keras_ae.codec", description=__doc__)
    parser.add_argument(
        "--model", type=Path, required=True, metavar="DIR", help="folder of a SavedModel"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = commands.add_parser("compress", help="write an image as a .kae file").add_argument
    add("input", type=Path, help="an image file")
    add("output", type=Path, help="the .kae file")
    images.add_targets(add)
    add(
        "--white",
        type=float,
        metavar="LEVEL",
        help="level that becomes white in files of floats or 32-bit integers",
    )
    add = commands.add_parser("decompress", help="write a .kae file as PNG").add_argument
    add("input", type=Path, help="a .kae file")
    add("output", type=Path, help="the PNG file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
