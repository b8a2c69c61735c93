"""Processor time of the two passes of ingest, per image, to compare two versions of the code.

    PYTHONPATH=CHECKOUT python benchmarks/ingest_passes.py images.zip --images 1000 --rounds 15

Reading and checking an image, and reading and converting it to an example, in one thread, without
Beam. The least of several rounds is printed, so that other programs on the machine count little:
run both versions at the same time. `CHECKOUT` may be an earlier version, without this file.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras_ae.datasets.sources.open import open_source
from pipeline.components.image_example_gen.checks import check_record
from pipeline.components.image_example_gen.writing import to_example


def main() -> None:
    """Parses the command line, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="a folder or an archive")
    parser.add_argument("--images", type=int, default=1000, help="the first images that are read")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    source = open_source(arguments.data)
    names = tuple(name for shard in source.shards() for name in shard)[: arguments.images]
    passes: dict[str, Callable[[Any], Any]] = {
        "check": lambda record: check_record(record, 3),
        "write": lambda record: to_example(record, 3, check_body=False),
    }
    least = dict.fromkeys(passes, float("inf"))
    for _ in range(arguments.rounds):
        for name, work in passes.items():
            start = time.process_time()
            for record in source.read(names):
                work(record)
            least[name] = min(least[name], time.process_time() - start)
    per_image = {name: seconds / len(names) * 1e6 for name, seconds in least.items()}
    columns = ", ".join(f"{name} {value:,.0f}" for name, value in per_image.items())
    print(f"microseconds per image: {columns}, both {sum(per_image.values()):,.0f}")


if __name__ == "__main__":
    main()
