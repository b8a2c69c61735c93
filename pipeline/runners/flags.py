"""The command-line flags that every runner of the pipeline has."""

import argparse
import shlex
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from keras_ae import budgets, presets
from keras_ae.datasets.sources import base
from keras_ae.errors import ConfigurationError
from keras_ae.saved_model.tiling import SERVING_TILE, check_tile
from keras_ae.tuning.search_space import SearchSpace
from pipeline.runtime import memory

_TOLD_AS_THEY_ARE = (
    "budgets",
    "preset",
    "channels",
    "seed",
    "seeds",
    "with_baseline",
    "batch_size",
    "tile",
    "max_bad_share",
    "tolerance",
    "min_gain",
    "max_drop",
    "max_slice_drop",
    "tune",
    "tune_epochs",
    "tune_parameters",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what a run is made of: data, ladder, model, training, limits and tracking."""
    add = parser.add_argument
    add(
        "--data",
        default=base.SAMPLE,
        help="a folder (searched recursively), a .zip or .tar of images, tfds:NAME[:VERSION], or "
        "'sample' for the photographs inside scikit-image and scikit-learn",
    )
    add(
        "--budgets",
        type=checked(budgets.parse),
        default=",".join(map(str, budgets.DEFAULT)),
        help="increasing numbers of epochs",
    )
    add(
        "--preset",
        type=checked(lambda name: presets.get(name) and name),
        default=presets.DEFAULT,
        help=f"the model: {', '.join(presets.PRESETS)}",
    )
    add("--channels", type=int, choices=(1, 3), default=3, help="1 for grey, 3 for RGB")
    add("--seed", type=number(int, 0, 2**31), default=0, help="of weights, crops and order")
    add(
        "--seeds",
        type=number(int, 1, 1000),
        default=1,
        metavar="N",
        help="ladders that are trained: with --seed, the number after it and so on",
    )
    add(
        "--with-baseline",
        action="store_true",
        help=f"train and compare the preset {presets.BASELINE} beside, with the first seed",
    )
    add("--batch-size", type=number(int, 1, 2**16), default=32, help="batch size (maximum)")
    add(
        "--tile",
        type=checked(_tile),
        default=SERVING_TILE,
        metavar="PIXELS",
        help="larger images are served in overlapping tiles of this side, in bounded memory",
    )
    add(
        "--tune",
        type=number(int, 0, 10_000),
        default=0,
        metavar="N",
        help="trials of a search for a better width, depth, learning rate and batch size, before "
        "the ladder",
    )
    add("--tune-epochs", type=number(int, 1, 2**31), default=10, help="epochs of each trial")
    add(
        "--tune-parameters",
        type=number(int, 0, 2**31),
        default=0,
        help="most trainable numbers of a trial's model, 0 for as many as the preset has",
    )
    add(
        "--memory-limit",
        metavar="GB",
        type=number(float, 0, 10**6),
        default=None,
        help="decoded training images that need more are decoded anew in each epoch; half of "
        "this machine's memory unless given",
    )
    add(
        "--tolerance",
        type=number(float, 0, 100),
        default=0.1,
        help="dB of mean val PSNR that count as equal when a budget is chosen",
    )
    add(
        "--min-gain",
        type=number(float, -100, 100),
        default=0.0,
        metavar="DB",
        help="dB by which mean test PSNR must exceed that of the linear floor for a push; at 0 any "
        "gain over the best linear autoencoder of the same size will do",
    )
    add(
        "--max-drop",
        type=number(float, 0, 100),
        default=0.1,
        metavar="DB",
        help="dB of mean test PSNR that a pushed model may lose against the model in service; by "
        "default what counts as equal between budgets",
    )
    add(
        "--max-slice-drop",
        type=number(float, 0, 100),
        default=0.5,
        metavar="DB",
        help="the same for each slice of at least 8 test images (a label, a folder, a quarter by "
        "size, brightness or detail); by default more than --max-drop, for a mean over few images "
        "is less certain",
    )
    add(
        "--max-bad-share",
        type=number(float, 0, 1),
        default=0.1,
        help="share of unreadable images above which the run stops",
    )
    add(
        "--mlflow-uri",
        type=checked(_plain_uri),
        default=None,
        metavar="URI",
        help="address of an MLflow server to log the run to, such as http://127.0.0.1:5000",
    )
    add("--mlflow-experiment", default="keras-ae", metavar="NAME", help="experiment that it joins")


def check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Checks flags that depend on each other; ends as argparse does, with a line and status 2."""
    _check_tuning(parser, arguments)
    if arguments.with_baseline and arguments.preset == presets.BASELINE:
        parser.error(f"--with-baseline needs another --preset than {presets.BASELINE}")
    named = arguments.mlflow_experiment != parser.get_default("mlflow_experiment")
    if named and arguments.mlflow_uri is None:
        parser.error("--mlflow-experiment needs --mlflow-uri")


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `pipeline.definition.create_pipeline` is told by these flags, without the data."""
    limit, uri = arguments.memory_limit, arguments.mlflow_uri
    return {
        **{name: getattr(arguments, name) for name in _TOLD_AS_THEY_ARE},
        "memory_limit": None if limit is None else int(limit * memory.GB),
        "mlflow": uri and {"uri": uri, "experiment": arguments.mlflow_experiment},
    }


def command(program: str, defaults: argparse.Namespace, arguments: argparse.Namespace) -> str:
    """The command line that gives these arguments, without what is the default anyway."""
    words = ["python", program]
    for name, value in vars(arguments).items():
        if value == getattr(defaults, name):
            continue
        for each in value if isinstance(value, list) else [value]:
            words.append(f"--{name.replace('_', '-')}")
            if isinstance(each, tuple):
                words.append(",".join(map(str, each)))
            elif each is not True:
                words.append(str(each))
    return shlex.join(words)


def checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Makes an argument type of a function that raises ConfigurationError."""

    def convert(text: str) -> Any:
        try:
            return read(text)
        except ConfigurationError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def number(kind: type, low: float, high: float) -> Callable[[str], Any]:
    """Makes an argument type of `int` or `float` for numbers from `low` to `high`."""

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            name = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"expected {name} from {low} to {high}; got {text!r}")
        return value

    return convert


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
