"""Measures the outcome, the time and the memory of each file of the corpus.

    python -m tests.corpus FOLDER
    python -m tests.corpus.measure FOLDER

The second command prints a line of JSON for each file of the folder and for each archive.
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
from pipeline.components.image_example_gen.checks import check_record
from pipeline.components.image_example_gen.writing import to_example
from tests.corpus import ARCHIVES, IMAGES

CPU_SECONDS = 300
"""Limit for the whole process, so that a file that never ends is noticed."""
MAX_ADDED_BYTES = 2 * 2**30
"""Limit of the address space beyond that at the start."""


def read_faults(source: Source, names: tuple[str, ...]) -> dict[str, str]:
    """The fault of each image by its key; empty for an accepted image."""
    faults = {}
    for record in source.read(names):
        if record.not_read:
            continue
        faults[record.key] = check_record(record, 3)[0].fault
        if not faults[record.key]:
            to_example(record, 3)
    return faults


def read_archive_faults(path: Path) -> dict[str, str]:
    """The faults of all members of an archive, or its own fault with an empty key if refused."""
    try:
        source = open_source(str(path))
        return {
            key: fault
            for shard in source.shards()
            for key, fault in read_faults(source, shard).items()
        }
    except DataError as error:
        return {"": str(error)}


def measure(work: Callable[[], dict[str, str]]) -> dict:
    """Calls a function; returns the faults, its time, and its peak memory beyond that before."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _status("VmRSS"), time.perf_counter()
    faults = work()
    seconds = time.perf_counter() - start
    return {"faults": faults, "seconds": seconds, "bytes": _status("VmHWM") - before}


def _status(name: str) -> int:
    """The value in bytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def main(folder: Path) -> None:
    """Prints the results of all files, in the order of their names."""
    source = open_source(str(folder / IMAGES))
    # Load the decoders first, so that their cost does not count for the first image.
    read_faults(source, ("plain.png", "plain.jpg", "plain.gif"))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    limit = _status("VmSize") + MAX_ADDED_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for name in (name for shard in source.shards() for name in shard):
        result = measure(lambda name=name: read_faults(source, (name,)))
        print(json.dumps({"file": name, **result}))
    print(json.dumps({"file": IMAGES, **measure(lambda: {"": source.fingerprint()})}))
    for path in sorted((folder / ARCHIVES).iterdir()):
        result = measure(lambda path=path: read_archive_faults(path))
        print(json.dumps({"file": path.name, **result}))


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
