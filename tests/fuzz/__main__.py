"""Fuzzes a reader of foreign bytes, guided by what of it runs, with Atheris.

    python -m tests.fuzz headers --seconds 3600

An input that finds a fault is written to the working directory; once the fault is mended, it goes
to tests/fuzz/regressions, where the tests replay it.
"""

import argparse
import resource
import sys
import tempfile
from pathlib import Path

import atheris

MEMORY_MB, TIMEOUT_SECONDS, MOST_BYTES = 1024, 20, 16_384
INSTRUMENTED = ["keras_ae", "tarfile", "zipfile"]


def main() -> None:
    """Reads the command line and fuzzes until the time or the runs are over."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=("headers", "zips", "tars"))
    parser.add_argument("--seconds", type=int, default=0, help="at most; 0 is for ever")
    parser.add_argument("--runs", type=int, default=-1, help="inputs that are tried")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations; 0 is a random one")
    parser.add_argument("--corpus", type=Path, help="folder that keeps what was found interesting")
    options = parser.parse_args()
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.seeds import seeds
        from tests.fuzz.targets import TARGETS
    with tempfile.TemporaryDirectory() as scratch:
        corpus, begin = options.corpus or Path(scratch, "corpus"), Path(scratch, "seeds")
        for place in (corpus, begin, Path(scratch, "files")):
            place.mkdir(exist_ok=True, parents=True)
        for number, data in enumerate(seeds(options.target, Path(scratch, "files")).values()):
            (begin / str(number)).write_bytes(data)
        arguments = [
            f"-max_total_time={options.seconds}",
            f"-runs={options.runs}",
            f"-seed={options.seed}",
            f"-rss_limit_mb={_peak_mb() + MEMORY_MB}",
            f"-timeout={TIMEOUT_SECONDS}",
            f"-max_len={MOST_BYTES}",
            str(corpus),
            str(begin),
        ]
        atheris.Setup([sys.argv[0], *arguments], TARGETS[options.target])
        atheris.Fuzz()


def _peak_mb() -> int:
    """What counts as this process's peak so far: it begins with that of the one that started it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
