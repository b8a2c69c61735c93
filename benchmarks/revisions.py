"""Requests per second of two revisions of the local server, measured alternately in one run.

    python -m benchmarks.revisions --before CHECKOUT

This one runs with and without --enable_serialization_as_tensor_content, the earlier one without
flags. The client is that of this checkout.
"""

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from PIL import Image

from benchmarks.machine import machine
from benchmarks.servers import local_server
from benchmarks.serving import BATCH_SIZES, Measurement, export_untrained, png, tiles
from keras_ae import presets
from serving.client.blocking import ReconstructionClient

FLAGS = {"": (), "tensor content": ("--enable_serialization_as_tensor_content",)}


def measurements(name: str, target: str, pid: int) -> list[Measurement]:
    """Scores, PNG files, reconstructions and decoded latents of 1 and of 32 tiles."""
    client = ReconstructionClient(target)
    rows = []
    for n in BATCH_SIZES:
        images = tiles(n)
        files = [png(Image.fromarray(image)) for image in images]
        latents = client.encode(images)
        calls: dict[str, Callable[[], object]] = {
            "scores": partial(client.score, files),
            "PNG": partial(client.reconstruct, files, as_png=True),
            "reconstruct": partial(client.reconstruct, images),
            "decode": partial(client.decode, latents),
        }
        for kind, call in calls.items():
            rows.append(Measurement(name, f"{kind} N={n}", n, 1, call, pid))
    return rows


def main() -> None:
    """Parses the command line, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="folder of another checkout")
    parser.add_argument("--model", type=Path, help="a SavedModel; by default an untrained one")
    parser.add_argument("--seconds", type=float, default=0.5, help="duration of a measurement")
    parser.add_argument("--repeats", type=int, default=8, help="measurements of each kind")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        model = arguments.model or export_untrained(presets.DEFAULT, Path(folder) / "model")
        before = servers.enter_context(local_server(model, code=arguments.before))
        pairs = []
        for label, flags in FLAGS.items():
            now = servers.enter_context(local_server(model, flags))
            rows = (measurements(label, server.target, server.pid) for server in (before, now))
            pairs += zip(*rows)
        measure(pairs, arguments.seconds, arguments.repeats)
    print(machine())
    report(pairs)


def measure(pairs: list[tuple[Measurement, Measurement]], seconds: float, repeats: int) -> None:
    """Measures the pairs in turn; every second time, the later revision comes first."""
    for row in (row for pair in pairs for row in pair):
        row.call()
    for repeat in range(repeats):
        for pair in pairs:
            for row in pair[:: -1 if repeat % 2 else 1]:
                row.measure(seconds)


def report(pairs: list[tuple[Measurement, Measurement]]) -> None:
    """Prints images per second and the median latencies of both revisions."""
    print(f"{'':<15} {'':<17} {'images/s':>16} {'':>6} {'p50 ms':>15}")
    print(
        f"{'':<15} {'request':<17} {'before':>8} {'now':>7} {'ratio':>6} {'before':>7} {'now':>7}"
    )
    for before, now in pairs:
        print(
            f"{now.target:<15} {now.request:<17} {before.rate:>8,.0f} {now.rate:>7,.0f} "
            f"{now.rate / before.rate:>6.2f} {before.latency_ms(50):>7.2f} "
            f"{now.latency_ms(50):>7.2f}"
        )


if __name__ == "__main__":
    main()
