"""Runs the pipeline on this machine: `python pipeline/run_local.py --help`."""

import argparse
import os
import shlex
import sys
from pathlib import Path
from urllib.parse import urlsplit

# As a script its own folder comes first on the path, where the packages are not.
sys.path[0:1] = [str(Path(__file__).resolve().parent.parent)]

from keras_ae import budgets, presets
from keras_ae.datasets import sources
from keras_ae.errors import ConfigurationError, KerasAEError
from keras_ae.search_space import SearchSpace
from keras_ae.tiling import TILE, check_tile


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads and checks the command line, before anything heavy is imported."""
    parser = argparse.ArgumentParser(
        prog="run_local.py",
        description="Train a convolutional autoencoder on images through a ladder of epoch "
        "budgets, compare the budgets on held-out images, and push the model that is worth it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--data",
        default=sources.SAMPLE,
        help="a folder (searched recursively), a .zip or .tar of images, tfds:NAME[:VERSION], or "
        "'sample' for the photographs inside scikit-image and scikit-learn",
    )
    add("--root", type=Path, default=Path("runs/default"), help="folder of everything a run makes")
    add(
        "--push-dir",
        type=Path,
        default=None,
        help="folder of the version folders that a server polls (default: ROOT/serving/keras_ae)",
    )
    add(
        "--budgets",
        type=_checked(budgets.parse),
        default=",".join(map(str, budgets.DEFAULT)),
        help="increasing numbers of epochs",
    )
    add(
        "--preset",
        type=_checked(lambda name: presets.get(name) and name),
        default=presets.DEFAULT,
        help=f"the model: {', '.join(presets.PRESETS)}",
    )
    add("--channels", type=int, choices=(1, 3), default=3, help="1 for grey, 3 for RGB")
    add("--seed", type=_number(int, 0, 2**31), default=0, help="of weights, crops and order")
    add(
        "--seeds",
        type=_number(int, 1, 1000),
        default=1,
        metavar="N",
        help="ladders that are trained: with --seed, the number after it and so on",
    )
    add(
        "--with-baseline",
        action="store_true",
        help=f"train and compare the preset {presets.BASELINE} beside, with the first seed",
    )
    add("--batch-size", type=_number(int, 1, 2**16), default=32, help="most tiles in a step")
    add(
        "--tile",
        type=_checked(_tile),
        default=TILE,
        metavar="PIXELS",
        help="larger images are served in overlapping tiles of this side, in bounded memory",
    )
    add(
        "--tune",
        type=_number(int, 0, 10_000),
        default=0,
        metavar="N",
        help="trials of a search for a better width, depth, learning rate and batch size, before "
        "the ladder",
    )
    add("--tune-epochs", type=_number(int, 1, 2**31), default=10, help="epochs of each trial")
    add(
        "--tune-parameters",
        type=_number(int, 0, 2**31),
        default=0,
        help="most trainable numbers of a trial's model, 0 for as many as the preset has",
    )
    add(
        "--memory-limit",
        metavar="GB",
        type=_number(float, 0, 10**6),
        default=None,
        help="decoded training images that need more are decoded anew in each epoch; half of "
        "this machine's memory unless given",
    )
    add(
        "--tolerance",
        type=_number(float, 0, 100),
        default=0.1,
        help="dB of mean val PSNR that count as equal when a budget is chosen",
    )
    add(
        "--min-gain",
        type=_number(float, -100, 100),
        default=0.0,
        metavar="DB",
        help="dB by which mean test PSNR must exceed that of the linear floor for a push; at 0 any "
        "gain over the best linear autoencoder of the same size will do",
    )
    add(
        "--max-drop",
        type=_number(float, 0, 100),
        default=0.1,
        metavar="DB",
        help="dB of mean test PSNR that a pushed model may lose against the model in service; by "
        "default what counts as equal between budgets",
    )
    add(
        "--max-slice-drop",
        type=_number(float, 0, 100),
        default=0.5,
        metavar="DB",
        help="the same for each slice of at least 8 test images (a label, a folder, a quarter by "
        "size, brightness or detail); by default more than --max-drop, for a mean over few images "
        "is less certain",
    )
    add(
        "--max-bad-share",
        type=_number(float, 0, 1),
        default=0.1,
        help="share of unreadable images above which the run stops",
    )
    add(
        "--mlflow-uri",
        type=_checked(_plain_uri),
        default=None,
        metavar="URI",
        help="address of an MLflow server to log the run to, such as http://127.0.0.1:5000",
    )
    add("--mlflow-experiment", default="keras-ae", metavar="NAME", help="experiment that it joins")
    add("--verbose", action="store_true", help="show the libraries' logs on the terminal")
    arguments = parser.parse_args(argv)
    _check_tuning(parser, arguments)
    if arguments.with_baseline and arguments.preset == presets.BASELINE:
        parser.error(f"--with-baseline needs another --preset than {presets.BASELINE}")
    named = arguments.mlflow_experiment != parser.get_default("mlflow_experiment")
    if named and arguments.mlflow_uri is None:
        parser.error("--mlflow-experiment needs --mlflow-uri")
    arguments.command = _command(parser.parse_args([]), arguments)
    arguments.root = arguments.root.expanduser().absolute()
    push_dir = arguments.push_dir or arguments.root / "serving" / "keras_ae"
    arguments.push_dir = push_dir.expanduser().absolute()
    arguments.check_command = [sys.executable, "-m", "serving.check"]
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Parses, runs and reports; returns the exit status."""
    arguments = parse_arguments(argv)
    try:
        sources.check(arguments.data)
        # The pipeline trains on TensorFlow, whatever the library is set to elsewhere.
        os.environ["KERAS_BACKEND"] = "tensorflow"
        from pipeline.local import run

        run(arguments)
    except KerasAEError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _check_tuning(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if not arguments.tune:
        for name in ("tune_epochs", "tune_parameters"):
            if getattr(arguments, name) != parser.get_default(name):
                parser.error(f"--{name.replace('_', '-')} needs --tune")
        return
    preset = presets.get(arguments.preset)
    try:
        SearchSpace(preset, arguments.batch_size, arguments.tune_parameters, arguments.channels)
    except ConfigurationError as error:
        parser.error(str(error))


def _command(defaults: argparse.Namespace, arguments: argparse.Namespace) -> str:
    """The command line that gives these arguments, without what is the default anyway."""
    words = ["python", "pipeline/run_local.py"]
    for name, value in vars(arguments).items():
        if value == getattr(defaults, name):
            continue
        words.append(f"--{name.replace('_', '-')}")
        if isinstance(value, tuple):
            words.append(",".join(map(str, value)))
        elif value is not True:
            words.append(str(value))
    return shlex.join(words)


def _checked(read):
    """Makes an argument type of a function that raises ConfigurationError."""

    def convert(text: str):
        try:
            return read(text)
        except ConfigurationError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def _tile(text: str) -> int:
    return check_tile(int(text) if text.isdecimal() else 0, presets.STRIDE)


def _plain_uri(text: str) -> str:
    # It is shown in the report.
    if "@" in urlsplit(text).netloc:
        raise ConfigurationError(
            "give user and password in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, not "
            "in the address"
        )
    return text


def _number(kind, low, high):
    def convert(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            name = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"expected {name} from {low} to {high}; got {text!r}")
        return value

    return convert


if __name__ == "__main__":
    sys.exit(main())
