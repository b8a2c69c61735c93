"""Runs the pipeline on this machine: `python pipeline/run_local.py --help`."""

import argparse
import os
import sys
from pathlib import Path

# As a script its own folder comes first on the path, where the packages are not.
sys.path[0:1] = [str(Path(__file__).resolve().parent.parent)]

from keras_ae.datasets.sources.open import check
from keras_ae.errors import ConfigurationError, KerasAEError
from pipeline.runners import flags
from pipeline.runners.beam import engines
from pipeline.runtime import console, signals

PROGRAM = "pipeline/run_local.py"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads and checks the command line, before anything heavy is imported."""
    parser = flags.Parser(
        prog="run_local.py",
        description="Train a convolutional autoencoder on images through a ladder of epoch "
        "budgets, compare the budgets on held-out images, and push the model that is worth it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--root",
        type=flags.checked(_folder),
        default=Path("runs/default"),
        help="folder of everything a run makes",
    )
    add(
        "--push-dir",
        type=flags.checked(_folder),
        default=None,
        help="folder of the version folders that a server polls (default: ROOT/serving/keras_ae)",
    )
    flags.add_arguments(parser)
    engines.add_arguments(parser)
    add(
        "--wait",
        action="store_true",
        help="if another run uses the root, wait until it ends instead of saying so",
    )
    add("--verbose", action="store_true", help="show the libraries' logs on the terminal")
    own, passed = engines.split(sys.argv[1:] if argv is None else argv)
    arguments = flags.parse(parser, own)
    # Whether it waits makes no other run of it.
    same = argparse.Namespace(**{**vars(arguments), "wait": False})
    defaults = parser.parse_args([])
    arguments.settings = flags.as_yaml(defaults, same)
    if passed:
        arguments.settings = f"# To be given as well:{engines.rest(passed)}\n{arguments.settings}"
    arguments.command = flags.command(PROGRAM, defaults, same) + engines.rest(passed)
    arguments.beam_options = passed
    arguments.root = arguments.root.expanduser().absolute()
    push_dir = arguments.push_dir or arguments.root / "serving" / "keras_ae"
    arguments.push_dir = push_dir.expanduser().absolute()
    arguments.check_command = [sys.executable, "-m", "serving.check"]
    return arguments


def _folder(text: str) -> Path:
    if "://" in text:
        raise ConfigurationError(
            f"expected a folder of this machine; got {text!r}: run_kubeflow.py has its root in a "
            "bucket"
        )
    return Path(text)


def main(argv: list[str] | None = None) -> int:
    """Parses, runs and reports; returns the exit status."""
    arguments = parse_arguments(argv)
    with signals.handled(arguments.command) as watch:
        try:
            _run(arguments)
        except (KerasAEError, KeyboardInterrupt) as error:
            # An error after a signal is a consequence of stopping.
            if watch.received:
                return watch.report()
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


def _run(arguments: argparse.Namespace) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    # TensorFlow looks at URIs, and has much to say that nobody asked for.
    with console.logs_to(Path(os.devnull)):
        check(arguments.data)
    chosen = arguments.beam_runner, arguments.workers, arguments.beam_options
    arguments.beam_arguments = engines.beam_arguments(*chosen)
    if arguments.beam_runner == engines.DATAFLOW:
        raise ConfigurationError(
            "Dataflow's machines do not see the folder --root; run_kubeflow.py has its root at "
            "gs://"
        )
    # The pipeline trains on TensorFlow, whatever the library is set to elsewhere.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    from pipeline.runners.local.runner import run

    run(arguments)


if __name__ == "__main__":
    sys.exit(main())
