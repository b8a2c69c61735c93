"""What becomes of each file of the corpus, and what it costs; a process of its own.

    python -m tests.corpus FOLDER
    python -m tests.corpus.measure FOLDER

prints a line of JSON for each file of the folder and for each archive.
"""

import ctypes
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from keras_ae.datasets.sources.base import Source
from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import DataError
from pipeline.components.image_example_gen.checks import check
from pipeline.components.image_example_gen.writing import to_example
from tests.corpus import ARCHIVES, IMAGES

CPU_SECONDS = 300
"""For all of it: a file that takes for ever ends the process."""
MEMORY_BEYOND = 2 * 2**30


def outcome(source: Source, names: tuple[str, ...]) -> dict[str, str]:
    """Why each image is quarantined, by its key; empty where it arrives."""
    found = {}
    for record in source.read(names):
        found[record.key] = check(record, 3).fault
        if not found[record.key]:
            to_example(record, 3, proven=True)
    return found


def of_archive(path: Path) -> dict[str, str]:
    """The same of all members of an archive; that of the archive by no key, if it is refused."""
    try:
        source = open_source(str(path))
        return {
            key: why for shard in source.shards() for key, why in outcome(source, shard).items()
        }
    except DataError as error:
        return {"": str(error)}


def costs(work: Callable[[], dict[str, str]]) -> dict:
    """What work found, the seconds it took, and the bytes it held beyond those before."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _status("VmRSS"), time.perf_counter()
    found = work()
    seconds = time.perf_counter() - start
    return {"found": found, "seconds": seconds, "bytes": _status("VmHWM") - before}


def _status(name: str) -> int:
    """Bytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def main(place: Path) -> None:
    """Prints what all cost, in the order of names."""
    source = open_source(str(place / IMAGES))
    # What is loaded for the first image is not its own cost.
    outcome(source, ("plain.png", "plain.jpg", "plain.gif"))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    limit = _status("VmSize") + MEMORY_BEYOND
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for name in (name for shard in source.shards() for name in shard):
        cost = costs(lambda name=name: outcome(source, (name,)))
        print(json.dumps({"file": name, **cost}))
    print(json.dumps({"file": IMAGES, **costs(lambda: {"": source.fingerprint()})}))
    for path in sorted((place / ARCHIVES).iterdir()):
        print(json.dumps({"file": path.name, **costs(lambda path=path: of_archive(path))}))


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
