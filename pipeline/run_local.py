"""Runs the pipeline on this machine: `python pipeline/run_local.py --help`."""

import argparse
import dataclasses
import os
import sys
from pathlib import Path

# The path of a script begins with its own folder, not with that of the packages.
sys.path[0:1] = [str(Path(__file__).resolve().parent.parent)]

from keras_ae.datasets.sources.names import expand
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
        "budgets, compare the budgets on held-out images, and push the chosen model for serving.",
    )
    add, folder = parser.add_argument, flags.checked(_folder)
    what = "folder of everything that a run writes"
    add("--root", type=folder, default=Path("runs/default"), help=what)
    what = "folder of the version folders that a server polls (default: ROOT/serving/keras_ae)"
    add("--push-dir", type=folder, help=what)
    flags.add_arguments(parser)
    engines.add_arguments(parser)
    what = "if another run uses the root, wait until it ends instead of failing"
    add("--wait", action="store_true", help=what)
    add("--verbose", action="store_true", help="show the libraries' logs on the terminal")
    words, beam_options = engines.split(sys.argv[1:] if argv is None else argv)
    arguments = flags.parse(parser, words)
    defaults, suffix = parser.parse_args([]), engines.format_beam_options(beam_options)
    # A run that waits is the same run: `command` identifies it.
    arguments.command = flags.command(PROGRAM, defaults, arguments, ["wait"]) + suffix
    arguments.beam_options = beam_options
    # Absolute paths, so that the file of settings repeats the run from any folder.
    data = flags.resolve_data(arguments.data)
    arguments.config = dataclasses.replace(arguments.config, data=data)
    arguments.root = arguments.root.absolute()
    push_dir = arguments.push_dir or arguments.root / "serving" / "keras_ae"
    arguments.push_dir = push_dir.absolute()
    arguments.own_folders = flags.own_folders(
        parser, data, {"root": arguments.root, "push folder": arguments.push_dir}
    )
    arguments.settings = flags.as_yaml(defaults, arguments, ["wait", "replace"])
    if beam_options:
        arguments.settings = f"# On the command line, add:{suffix}\n{arguments.settings}"
    arguments.check_command = [sys.executable, "-m", "serving.check"]
    return arguments


def _folder(text: str) -> Path:
    if "://" in text:
        raise ConfigurationError(
            f"expected a folder on this machine; got {text!r}; for a root in a bucket use "
            "run_kubeflow.py"
        )
    return Path(expand(text))


def main(argv: list[str] | None = None) -> int:
    """Parses the command line, runs and reports; returns the exit status."""
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
    # For URIs this uses TensorFlow, which logs much.
    with console.logs_to(Path(os.devnull)):
        check(arguments.data)
    arguments.beam_arguments = engines.beam_arguments(
        arguments.beam_runner, arguments.workers, arguments.beam_options
    )
    if arguments.beam_runner == engines.DATAFLOW:
        raise ConfigurationError(
            "Dataflow's machines cannot reach the folder of --root; use run_kubeflow.py with a "
            "root at gs://"
        )
    # The pipeline trains on TensorFlow, whatever backend the user has set for Keras.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    from pipeline.runners.local.runner import run

    run(arguments)


if __name__ == "__main__":
    sys.exit(main())
