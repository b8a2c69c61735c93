"""The commands for .kae files: compress, decompress and info."""

import argparse
from collections.abc import Callable
from pathlib import Path

from keras_ae.codec.file import read_header
from keras_ae.codec.header import describe
from keras_ae.codec.images import Target, check
from keras_ae.errors import (
    ConfigurationError,
    DataError,
    DeadlineError,
    InvalidRequestError,
    LimitError,
)

from ..blocking import ReconstructionClient
from ..images import encode_png, read
from . import files, output
from .output import printable

_FAULTS_OF_A_FILE = (
    ConfigurationError,
    DataError,
    DeadlineError,
    InvalidRequestError,
    LimitError,
)
"""Errors that concern one file of a folder; others end the command."""


def compress(client: ReconstructionClient, arguments: argparse.Namespace) -> int:
    """Writes the .kae file of an image, or of each image below a folder."""
    target = Target(arguments.quality, arguments.psnr, arguments.bytes)
    check(target)

    def convert(path: Path) -> bytes:
        return client.compress(path, **target._asdict())

    return _convert(arguments, convert, "", ".kae")


def decompress(client: ReconstructionClient, arguments: argparse.Namespace) -> int:
    """Writes the image of a .kae file as PNG, or of each .kae file below a folder."""
    return _convert(arguments, lambda path: encode_png(client.decompress(path)), ".kae", ".png")


def info(client: ReconstructionClient, arguments: argparse.Namespace) -> int:
    """Prints what .kae files say of themselves."""
    for path in arguments.paths:
        print(_describe(path, read(path)))
    return 0


def _convert(
    arguments: argparse.Namespace, convert: Callable[[Path], bytes], of: str, to: str
) -> int:
    """Writes what the input file is converted to, or each file below an input folder."""
    source, target = arguments.input, arguments.output
    if source.is_dir():
        return _convert_folder(source, target, convert, of, to)
    if target.suffix.lower() != to or target.is_dir():
        raise DataError(f"expected an output file that ends in {to}; got {target}")
    files.check_not_overwritten([source], [target])
    data = convert(source)
    files.write(target, data)
    print(_describe(target, data) if to == ".kae" else f"{printable(target)}: {len(data):,} bytes")
    return 0


def _convert_folder(
    source: Path, target: Path, convert: Callable[[Path], bytes], of: str, to: str
) -> int:
    paths, not_read, outputs = files.plan_folder(source, target, of=of, to=to)
    remarks, before, after = output.Remarks(not_read), 0, 0
    with output.progress(len(paths)) as bar:
        for path in paths:
            try:
                data = convert(path)
                files.write(outputs[path], data)
                before, after = before + path.stat().st_size, after + len(data)
            except _FAULTS_OF_A_FILE as error:
                remarks.add(printable(path), str(error), "")
            bar.update()
    done = len(paths) - len(remarks.failures)
    sizes = f"{before:,} bytes became {after:,}"
    print(f"{done:,} of {len(paths):,} files written in {printable(target)}: {sizes}")
    return remarks.report(len(paths))


def _describe(path: Path, data: bytes) -> str:
    try:
        return f"{printable(path)}: {describe(read_header(data), len(data))}"
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
