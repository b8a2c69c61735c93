"""`python -m keras_ae.report compare RUN_A RUN_B ...`: several runs side by side."""

import argparse
import sys
from pathlib import Path

from keras_ae.comparison import across
from keras_ae.comparison.terminal import format_runs
from keras_ae.errors import KerasAEError
from keras_ae.report.across import write_across


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m keras_ae.report")
    commands = parser.add_subparsers(dest="command", required=True)
    compare = commands.add_parser(
        "compare",
        help="several runs side by side",
        description="Puts runs side by side, each at its chosen budget, with paired statistics "
        "where their test images are the same ones. The first run is what others are held against.",
    )
    compare.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="the --root of a run, or its comparison.json (with images.jsonl beside it)",
    )
    compare.add_argument("--html", type=Path, metavar="FILE", help="write a page as well")
    compare.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as well")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Compares, prints and writes; returns the exit status."""
    arguments = parse_arguments(argv)
    try:
        compared = across.compare_runs(across.load(arguments.runs))
        print(format_runs(compared))
        if arguments.json:
            arguments.json.write_text(compared.to_json())
        if arguments.html:
            write_across(compared, arguments.html)
    except KerasAEError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot write {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
