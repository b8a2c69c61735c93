"""Coverage-guided fuzzing, with Atheris, of code that reads untrusted data.

    python -m tests.fuzz headers --seconds 3600

With several targets, one after the other is fuzzed, each in a process of its own. The first one
with a fault is the last.

An input that finds a fault is written to the working directory. After the fault is fixed, move the
input to tests/fuzz/regressions, from where the tests replay it.
"""

import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import atheris

MEMORY_MB, TIMEOUT_SECONDS, MAX_BYTES = 1024, 20, 16_384
INSTRUMENTED = ["keras_ae", "serving.client", "tarfile", "zipfile"]


def main() -> None:
    """Parses the command line and fuzzes for the given time or number of runs."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    names = ("headers", "pixels", "sent", "zips", "tars", "arrays", "tables", "latents")
    parser.add_argument("targets", nargs="+", choices=names, metavar="TARGET", help=str(names))
    parser.add_argument(
        "--seconds", type=int, default=0, help="maximum time for each target; 0 for no limit"
    )
    parser.add_argument(
        "--runs", type=int, default=-1, help="number of inputs for each target; -1 for no limit"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the mutations; 0 for a random seed"
    )
    parser.add_argument("--corpus", type=Path, help="folder for inputs that reach new code")
    options = parser.parse_args()
    # Imported once, since instrumented imports take longer than a short run.
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz import seeds, targets  # noqa: F401
    *others, last = options.targets
    for target in others:
        if not (process := os.fork()):
            _fuzz(target, options)
        _, status = os.waitpid(process, 0)
        if status:
            sys.exit(os.waitstatus_to_exitcode(status))
    _fuzz(last, options)


def _fuzz(target: str, options: argparse.Namespace) -> NoReturn:
    from tests.fuzz.seeds import seeds
    from tests.fuzz.targets import TARGETS

    with tempfile.TemporaryDirectory() as scratch:
        corpus, seed_folder = options.corpus or Path(scratch, "corpus"), Path(scratch, "seeds")
        for folder in (corpus, seed_folder, Path(scratch, "files")):
            folder.mkdir(exist_ok=True, parents=True)
        for number, data in enumerate(seeds(target, Path(scratch, "files")).values()):
            (seed_folder / str(number)).write_bytes(data)
        arguments = [
            f"-max_total_time={options.seconds}",
            f"-runs={options.runs}",
            f"-seed={options.seed}",
            f"-rss_limit_mb={_peak_mb() + MEMORY_MB}",
            f"-timeout={TIMEOUT_SECONDS}",
            f"-max_len={MAX_BYTES}",
            str(corpus),
            str(seed_folder),
        ]
        atheris.Setup([sys.argv[0], *arguments], TARGETS[target])
        atheris.Fuzz()
    raise AssertionError("libFuzzer ends the process")


def _peak_mb() -> int:
    """Peak memory of this process so far, which includes that of its parent before exec."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
