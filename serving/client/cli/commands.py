"""The commands of the client's command line."""

import argparse
import io
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from keras_ae import contract as c
from keras_ae.codec import images
from keras_ae.datasets.sources.names import path_argument
from keras_ae.errors import ConfigurationError, DataError, KerasAEError

from ..base import TARGET, TIMEOUT
from ..blocking import ReconstructionClient
from ..images import read
from ..prepare import prepare
from ..results import Reconstruction, TensorInfo
from . import compression, files, output
from .output import SCORES, printable

TOKEN_VARIABLE: Final = "KERAS_AE_TOKEN"


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Runs a command; returns the exit status.

    Args:
        argv: the arguments; `sys.argv[1:]` by default.
        prog: name of the program in the usage message; by default that of `sys.argv[0]`.
    """
    parser = _parser(prog)
    arguments = parser.parse_args(argv)
    try:
        client = _client(arguments)
    except ConfigurationError as error:
        parser.exit(2, f"error: {error}\n")
    try:
        with client:
            return int(arguments.run(client, arguments))
    except KerasAEError as error:
        output.print_error(str(error))
        return 1
    except BrokenPipeError:
        # The reader of a pipe has closed it. Python would report that again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        output.print_error("interrupted; the files written so far are complete")
        return 130


def reconstruct(client: ReconstructionClient, arguments: argparse.Namespace) -> int:
    """Writes the reconstruction of an image, or of each image below a folder."""
    source, target = arguments.input, arguments.output
    if source.is_dir():
        return _reconstruct_folder(client, source, target)
    _check_png(target)
    files.check_not_overwritten([source], [target])
    result = _reconstruct_one(client, source, as_png=True)
    files.write(target, result.image)
    print(f"{printable(target)}: {_format_scores(result)}")
    return 0


def score(client: ReconstructionClient, arguments: argparse.Namespace) -> int:
    """Writes a row of scores for each image."""
    paths: list[Path] = []
    not_read: Counter[str] = Counter()
    for path in arguments.paths:
        if not path.exists():
            raise DataError(f"no such file or folder: {path}")
        found = files.find(path) if path.is_dir() else files.Found([path], Counter())
        paths += found.paths
        not_read += found.not_read
    if arguments.output is not None:
        files.check_not_overwritten(paths, [arguments.output])
    rows = _score_rows(client, paths)
    remarks = output.Remarks(not_read)
    rows = remarks.collect(rows)
    lines = (
        output.csv_lines(rows) if arguments.format == "csv" else output.json_lines(rows, not_read)
    )
    if arguments.output is None:
        for line in lines:
            print(line, end="", flush=True)
    else:
        files.write(arguments.output, "".join(lines).encode())
    return remarks.report(len(paths))


def compare(client: ReconstructionClient, arguments: argparse.Namespace) -> int:
    """Writes an image, its reconstruction and their difference as one picture."""
    from .. import originals
    from . import picture

    _check_png(arguments.output)
    files.check_not_overwritten([arguments.input], [arguments.output])
    data = read(arguments.input)
    result = _reconstruct_one(client, arguments.input, as_png=False)
    sent = prepare(data, arguments.white).data
    original, white = originals.read_original(sent, result.image, result.mse, arguments.white)
    if white is None:
        note = "the original's level of white was guessed: give --white LEVEL"
        output.print_note(arguments.input, note)
    title = f"{printable(arguments.input.name)}\n{_format_scores(result)}"
    buffer = io.BytesIO()
    picture.compare(original, result.image, title).save(buffer, "PNG")
    files.write(arguments.output, buffer.getvalue())
    print(f"{printable(arguments.output)}: {_format_scores(result)}")
    return 0


def status(client: ReconstructionClient, arguments: argparse.Namespace) -> int:
    """Prints the versions of the model and their states."""
    for version in client.status():
        print(f"version {version.version}  {version.state}  {version.error}".rstrip())
    return 0


def metadata(client: ReconstructionClient, arguments: argparse.Namespace) -> int:
    """Prints the signatures of the model."""
    model = client.metadata()
    print(f"{model.model}, version {model.version}")
    for name, signature in model.signatures.items():
        print(name)
        for verb, tensors in (("takes", signature.inputs), ("gives", signature.outputs)):
            for tensor, info in tensors.items():
                print(f"  {verb} {tensor}: {_format_tensor(info)}")
    return 0


def _reconstruct_folder(client: ReconstructionClient, source: Path, target: Path) -> int:
    paths, not_read, outputs = files.plan_folder(source, target)
    remarks = output.Remarks(not_read)
    with output.progress(len(paths)) as bar:
        for path, result in files.request_in_batches(
            paths, lambda data: list(client.reconstruct(data, as_png=True))
        ):
            status = result if isinstance(result, str) else result.status
            remarks.add(printable(path), status, "" if isinstance(result, str) else result.note)
            if not isinstance(result, str) and not status:
                files.write(outputs[path], result.image)
            bar.update()
    done = len(paths) - len(remarks.failures)
    print(f"{done:,} of {len(paths):,} images reconstructed in {printable(target)}")
    return remarks.report(len(paths))


def _reconstruct_one(client: ReconstructionClient, path: Path, *, as_png: bool) -> Reconstruction:
    result = client.reconstruct(path, as_png)[0]
    if result.status:
        raise DataError(f"{path}: {result.status}")
    if result.note:
        output.print_note(path, result.note)
    return result


def _score_rows(client: ReconstructionClient, paths: list[Path]) -> Iterator[dict[str, Any]]:
    def request(data: list[bytes]) -> list[dict[str, Any]]:
        scores = client.score(data)
        names = (*SCORES, "unusual", "judged", c.STATUS, "notes")
        columns = {name: getattr(scores, name) for name in names}
        return [{name: column[i] for name, column in columns.items()} for i in range(len(scores))]

    blank: dict[str, Any] = {**dict.fromkeys(SCORES, math.nan), "judged": False, "notes": ""}
    for path, result in files.request_in_batches(paths, request):
        row = {**blank, c.STATUS: result} if isinstance(result, str) else result
        scores = {name: float(row[name]) for name in SCORES}
        yield {
            "path": printable(path),
            **scores,
            "unusual": bool(row["unusual"]) if row["judged"] else math.nan,
            c.STATUS: row[c.STATUS],
            "notes": row["notes"],
        }


def _format_scores(result: Reconstruction) -> str:
    text = f"PSNR {result.psnr:.2f} dB"
    if not math.isnan(result.ssim):
        text += f", SSIM {result.ssim:.4f}"
    if not math.isnan(result.percentile):
        text += f", error percentile {result.percentile:.2f} of the val images"
    if result.judged:
        return text + (": unusual" if result.unusual else "")
    return text + f": cannot tell whether it is unusual ({_why_not_judged(result)})"


def _why_not_judged(result: Reconstruction) -> str:
    if math.isnan(result.percentile):
        return "the model was exported without the errors of val images"
    if not result.val_images:
        return "the model does not say how many val images there were"
    return f"val images: {result.val_images} of the {c.MIN_VAL_IMAGES} needed"


def _format_tensor(info: TensorInfo) -> str:
    if info.shape is None:
        return f"{info.dtype} of any shape"
    return f"{info.dtype} [{', '.join('?' if n is None else str(n) for n in info.shape)}]"


def _check_png(path: Path) -> None:
    if path.suffix.lower() != ".png" or path.is_dir():
        raise DataError(f"expected an output file that ends in .png; got {path}")


def _client(arguments: argparse.Namespace) -> ReconstructionClient:
    return ReconstructionClient(
        arguments.target,
        arguments.model,
        timeout=arguments.timeout,
        version=arguments.version,
        label=arguments.label,
        tls=arguments.tls,
        ca_certificate=arguments.ca_certificate,
        client_certificate=arguments.client_certificate,
        client_key=arguments.client_key,
        token=_token(arguments.token_file),
        white=getattr(arguments, "white", None),
    )


def _token(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the token in {path}: {error}") from error


def _parser(prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Get reconstructions of images and their scores from TensorFlow Serving or the "
        "local server.",
        epilog="COMMAND --help lists the options of a command, and those of the connection, which "
        "all commands have. Exit status: 0 for success, 1 if a request failed or an image could "
        "not be used, 2 for an invalid command line.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add_command(
        run: Callable[..., int], text: str, *, sends_files: bool = False
    ) -> Callable[..., argparse.Action]:
        subparser = commands.add_parser(run.__name__, help=text, description=text)
        subparser.set_defaults(run=run)
        if sends_files:
            subparser.add_argument(
                "--white",
                type=float,
                metavar="LEVEL",
                help="level that becomes white in files of floats or 32-bit integers; default: "
                "floats are of 0..1, such integers are refused. The model knows the range of "
                "16-bit files; `compare` finds it, or tries LEVEL",
            )
        _add_connection_options(subparser.add_argument_group("server"))
        return subparser.add_argument

    add = add_command(
        reconstruct,
        "write the reconstruction of an image, or of a folder's images",
        sends_files=True,
    )
    add("input", type=path_argument, help="an image, or a folder that is searched recursively")
    add(
        "output",
        type=path_argument,
        help="a .png file, or a folder that gets the same names in .png",
    )
    add = add_command(score, "write the scores of images as CSV or JSON lines", sends_files=True)
    add("paths", type=path_argument, nargs="+", metavar="PATH", help="an image or a folder")
    add("--format", choices=("csv", "jsonl"), default="csv", help="default: csv")
    add("--output", type=path_argument, metavar="FILE", help="default: standard output")
    add = add_command(
        compare,
        "write a picture of an image, its reconstruction and their difference",
        sends_files=True,
    )
    add("input", type=path_argument, help="an image")
    add("output", type=path_argument, help="a .png file")
    add = add_command(
        compression.compress,
        "write an image, or a folder's images, as .kae files of the model's latents",
        sends_files=True,
    )
    add("input", type=path_argument, help="an image, or a folder that is searched recursively")
    add(
        "output",
        type=path_argument,
        help="a .kae file, or a folder that gets the same names in .kae",
    )
    images.add_targets(add)
    add = add_command(compression.decompress, "write .kae files as .png, with the same model")
    add("input", type=path_argument, help="a .kae file, or a folder of them")
    add("output", type=path_argument, help="a .png file, or a folder")
    add = add_command(compression.info, "print what .kae files say of themselves, without a server")
    add("paths", type=path_argument, nargs="+", metavar="PATH", help="a .kae file")
    add_command(status, "print the versions of the model and their states")
    add_command(metadata, "print the signatures of the model")
    return parser


def _add_connection_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--target",
        default=TARGET,
        help="host:port or unix:/path for gRPC, http://host:port or https://... for REST; default: "
        "%(default)s",
    )
    add("--model", default="keras_ae", help="name of the model on the server; default: %(default)s")
    add("--version", type=int, metavar="N", help="number of a version; default: the newest")
    add("--label", help="label of a version, instead of its number")
    add(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help="timeout of each request including its retries; default: %(default)g",
    )
    add("--tls", action="store_true", help="encrypt gRPC; for REST, give an https:// target")
    add(
        "--ca-certificate",
        type=path_argument,
        metavar="FILE",
        help="PEM of trusted authorities; default: the system's",
    )
    add("--client-certificate", type=path_argument, metavar="FILE", help="PEM, with --client-key")
    add("--client-key", type=path_argument, metavar="FILE", help="PEM, with --client-certificate")
    add(
        "--token-file",
        type=path_argument,
        metavar="FILE",
        help=f"file with a bearer token; default: the environment variable {TOKEN_VARIABLE}. The "
        "token is never sent in plain text to another machine",
    )
