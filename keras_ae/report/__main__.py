"""Command line: `python -m keras_ae.report compare RUN_A RUN_B ...` compares runs."""

import argparse
import sys

from keras_ae.comparison import across
from keras_ae.comparison.terminal import format_runs
from keras_ae.datasets.sources.names import path_argument
from keras_ae.errors import KerasAEError
from keras_ae.report.across import write_runs_page


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m keras_ae.report")
    commands = parser.add_subparsers(dest="command", required=True)
    compare = commands.add_parser(
        "compare",
        help="compare several runs",
        description="Compares runs, each at its chosen budget, with the first one. Differences are "
        "paired over the test images that two runs share.",
    )
    compare.add_argument(
        "runs",
        nargs="+",
        type=path_argument,
        metavar="RUN",
        help="the --root of a run, or its comparison.json (with images.jsonl next to it)",
    )
    compare.add_argument(
        "--html", type=path_argument, metavar="FILE", help="also write an HTML page"
    )
    compare.add_argument(
        "--json", type=path_argument, metavar="FILE", help="also write the numbers as JSON"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Compares runs, prints and writes the result; returns the exit status."""
    arguments = parse_arguments(argv)
    try:
        runs = across.compare_runs(across.load(arguments.runs))
        print(format_runs(runs))
        if arguments.json:
            arguments.json.write_text(runs.to_json())
        if arguments.html:
            write_runs_page(runs, arguments.html)
    except KerasAEError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot write {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
