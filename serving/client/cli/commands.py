"""The commands: what each one asks the server, and what it prints and writes."""

import argparse
import csv
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from keras_ae import contract as c
from keras_ae.errors import ConfigurationError, DataError, KerasAEError
from keras_ae.imports import from_extra

from ..base import TARGET, TIMEOUT
from ..blocking import ReconstructionClient
from ..results import Reconstruction, TensorInfo
from . import files

TOKEN_VARIABLE: Final = "KERAS_AE_TOKEN"
SCORES: Final = (c.MSE, c.PSNR, c.SSIM, c.MS_SSIM, c.PERCENTILE, c.FLOOR_PSNR)
COLUMNS: Final = ("path", *SCORES, "unusual", c.STATUS)


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Runs a command; returns the exit status.

    Args:
        argv: the arguments; the program's own by default.
        prog: how it was started, for its usage; the name of the program by default.
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
        _complain(str(error))
        return 1
    except BrokenPipeError:
        # Whoever read our lines has enough; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        _complain("interrupted: what is written is whole")
        return 130


def reconstruct(client: ReconstructionClient, arguments: argparse.Namespace) -> int:
    """Writes the reconstruction of an image, or of each image below a folder."""
    source, target = arguments.input, arguments.output
    if source.is_dir():
        return _reconstruct_folder(client, source, target)
    _check_png(target)
    files.check_not_overwritten([source], [target])
    result = _one(client, source, as_png=True)
    files.write(target, result.image)
    print(f"{target}: {_scores_in_words(result)}")
    return 0


def score(client: ReconstructionClient, arguments: argparse.Namespace) -> int:
    """Writes a row of scores for each image."""
    paths: list[Path] = []
    for path in arguments.paths:
        if not path.exists():
            raise DataError(f"no such file or folder: {path}")
        paths += files.find(path) if path.is_dir() else [path]
    if arguments.output is not None:
        files.check_not_overwritten(paths, [arguments.output])
    rows = _score_rows(client, paths)
    bad: list[tuple[Path, str]] = []
    write = _csv if arguments.format == "csv" else _json_lines
    if arguments.output is None:
        for text in write(_noted(rows, bad)):
            print(text, end="", flush=True)
    else:
        files.write(arguments.output, "".join(write(_noted(rows, bad))).encode())
    return _tell_bad(bad, len(paths))


def compare(client: ReconstructionClient, arguments: argparse.Namespace) -> int:
    """Writes an image, its reconstruction and their difference as one picture."""
    from . import picture

    _check_png(arguments.output)
    files.check_not_overwritten([arguments.input], [arguments.output])
    result = _one(client, arguments.input, as_png=False)
    try:
        original = picture.read_pixels(arguments.input.read_bytes(), result.image.shape[-1])
    except OSError as error:
        raise DataError(f"cannot read {arguments.input}: {error.strerror}") from error
    title = f"{arguments.input.name}\n{_scores_in_words(result)}"
    buffer = io.BytesIO()
    picture.compare(original, result.image, title).save(buffer, "PNG")
    files.write(arguments.output, buffer.getvalue())
    print(f"{arguments.output}: {_scores_in_words(result)}")
    return 0


def status(client: ReconstructionClient, arguments: argparse.Namespace) -> int:
    """Prints the versions and their states."""
    for version in client.status():
        print(f"version {version.version}  {version.state}  {version.error}".rstrip())
    return 0


def metadata(client: ReconstructionClient, arguments: argparse.Namespace) -> int:
    """Prints the signatures."""
    found = client.metadata()
    print(f"{found.model}, version {found.version}")
    for name, signature in found.signatures.items():
        print(name)
        for verb, tensors in (("takes", signature.inputs), ("gives", signature.outputs)):
            for tensor, info in tensors.items():
                print(f"  {verb} {tensor}: {_tensor_in_words(info)}")
    return 0


def _reconstruct_folder(client: ReconstructionClient, source: Path, target: Path) -> int:
    with from_extra("client", "the progress bar"):
        from tqdm import tqdm

    if target.exists() and not target.is_dir():
        raise DataError(f"{target} is a file: a folder's reconstructions need a folder")
    if target.exists() and target.samefile(source):
        raise DataError(f"{target} is the input itself: write to another folder")
    paths = files.find(source, leave_out=target)
    places = dict(zip(paths, files.outputs(paths, source, target)))
    bad: list[tuple[Path, str]] = []
    with tqdm(total=len(paths), unit="image", file=sys.stderr, disable=None) as bar:
        for path, answer in files.answers(paths, lambda data: list(client.reconstruct(data, True))):
            fault = answer if isinstance(answer, str) else answer.status
            if fault:
                bad.append((path, fault))
            elif isinstance(answer, Reconstruction):
                files.write(places[path], answer.image)
            bar.update()
    print(f"{len(paths) - len(bad):,} of {len(paths):,} images reconstructed in {target}")
    return _tell_bad(bad, len(paths))


def _one(client: ReconstructionClient, path: Path, *, as_png: bool) -> Reconstruction:
    result = client.reconstruct(path, as_png)[0]
    if result.status:
        raise DataError(f"{path}: {result.status}")
    return result


def _score_rows(client: ReconstructionClient, paths: list[Path]) -> Iterator[dict[str, Any]]:
    def ask(data: list[bytes]) -> list[dict[str, Any]]:
        found = client.score(data)
        columns = {name: getattr(found, name) for name in (*SCORES, "unusual", c.STATUS)}
        return [{name: column[i] for name, column in columns.items()} for i in range(len(found))]

    blank: dict[str, Any] = {**dict.fromkeys(SCORES, math.nan), "unusual": False}
    for path, answer in files.answers(paths, ask):
        row: dict[str, Any] = answer if isinstance(answer, dict) else {**blank, c.STATUS: answer}
        scores = {name: float(row[name]) for name in SCORES}
        yield {
            "path": str(path),
            **scores,
            "unusual": bool(row["unusual"]),
            c.STATUS: row[c.STATUS],
        }


def _noted(rows: Iterator[dict[str, Any]], bad: list[tuple[Path, str]]) -> Iterator[dict[str, Any]]:
    """Passes rows on, and notes those of bad images."""
    for row in rows:
        if row[c.STATUS]:
            bad.append((Path(row["path"]), row[c.STATUS]))
        yield row


def _csv(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _number(value, "") for name, value in row.items()})
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _json_lines(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield json.dumps({name: _number(value, None) for name, value in row.items()}) + "\n"


def _number(value: Any, missing: Any) -> Any:
    """A score in as many digits as a float32 holds; what is not a number has a file's own way."""
    if not isinstance(value, float):
        return str(value).lower() if missing == "" and isinstance(value, bool) else value
    return missing if math.isnan(value) else float(f"{value:.7g}")


def _tell_bad(bad: list[tuple[Path, str]], count: int) -> int:
    if not bad:
        return 0
    for path, fault in bad:
        print(f"{path}: {fault}", file=sys.stderr)
    _complain(f"{len(bad):,} of {count:,} images could not be used")
    return 1


def _scores_in_words(result: Reconstruction) -> str:
    words = f"PSNR {result.psnr:.2f} dB"
    if not math.isnan(result.ssim):
        words += f", SSIM {result.ssim:.4f}"
    if not math.isnan(result.percentile):
        words += f", worse than {result.percentile:.0%} of val images"
    return words + (": unusual" if result.unusual else "")


def _tensor_in_words(info: TensorInfo) -> str:
    if info.shape is None:
        return f"{info.dtype} of any shape"
    return f"{info.dtype} [{', '.join('?' if n is None else str(n) for n in info.shape)}]"


def _complain(text: str) -> None:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)


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
        description="Asks TensorFlow Serving, or the local server, for reconstructions of images "
        "and their scores.",
        epilog="Every command takes the options of the server: COMMAND --help lists them. Exit "
        "status: 0 if all went well, 1 if a request failed or an image could not be used, 2 for a "
        "command line that makes no sense.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable[..., int], text: str) -> Callable[..., argparse.Action]:
        made = commands.add_parser(run.__name__, help=text, description=text)
        made.set_defaults(run=run)
        _add_connection(made.add_argument_group("server"))
        return made.add_argument

    add = command(reconstruct, "write the reconstruction of an image, or of a folder's images")
    add("input", type=Path, help="an image, or a folder that is searched recursively")
    add("output", type=Path, help="a .png file, or a folder that gets the same names in .png")
    add = command(score, "write the scores of images as CSV or JSON lines")
    add("paths", type=Path, nargs="+", metavar="PATH", help="an image or a folder")
    add("--format", choices=("csv", "jsonl"), default="csv", help="default: csv")
    add("--output", type=Path, metavar="FILE", help="default: standard output")
    add = command(compare, "write an image, its reconstruction and their difference as one picture")
    add("input", type=Path, help="an image")
    add("output", type=Path, help="a .png file")
    command(status, "print the versions of the model and their states")
    command(metadata, "print the signatures of the model")
    return parser


def _add_connection(group: Any) -> None:
    add = group.add_argument
    add(
        "--target",
        default=TARGET,
        help="host:port or unix:/path for gRPC, http://host:port or https://... for REST; default: "
        "%(default)s",
    )
    add("--model", default="keras_ae", help="its name on the server; default: %(default)s")
    add("--version", type=int, metavar="N", help="default: the newest")
    add("--label", help="of a version, instead of its number")
    add(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help="of each request with its retries; default: %(default)g",
    )
    add("--tls", action="store_true", help="encrypt gRPC; REST is by an address of https://")
    add("--ca-certificate", type=Path, metavar="FILE", help="PEM, instead of the system's")
    add("--client-certificate", type=Path, metavar="FILE", help="PEM, with --client-key")
    add("--client-key", type=Path, metavar="FILE", help="PEM, with --client-certificate")
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"holds a bearer token; default: the environment's {TOKEN_VARIABLE}. It is never sent "
        "in plain text to another machine",
    )
