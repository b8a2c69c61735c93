"""A soak test of the local server: good clients beside slow and hostile ones, and hot swaps.

    python -m tests.endurance.serving_soak --minutes 10

The good clients send small and medium images over gRPC and REST. They run alone first, then beside
`tests.endurance.hostile_clients`, while versions of the model come and go. The test passes if no
good request fails, their 99th percentile is at most three times that without the others, none takes
more than 2 s, and the resident memory of the server grows by at most 10 %. The exit status is 1
otherwise.
"""

import argparse
import gc
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.data import load
from benchmarks.machine import machine
from benchmarks.servers import Server, local_server
from benchmarks.serving import export_untrained
from keras_ae import presets
from keras_ae.errors import ServingError
from serving.client.blocking import ReconstructionClient
from tests.corpus.pictures import encoded
from tests.endurance.swaps import publish, wait_until

MAX_RATIO, MAX_SECONDS, MAX_GROWTH = 3.0, 2.0, 0.1
PAUSE_SECONDS = 1.0
TIMEOUT_SECONDS = 60
WARM_UP_SECONDS, IDLE_SECONDS = 30.0, 10.0
SWAP_SECONDS = 5.0
SMALL, MEDIUM = (64, 64), (192, 128)
Seconds = dict[str, list[float]]
"""The latencies of requests by their kind."""


class GoodClients:
    """Threads that send one kind of request each, and record how long the responses take.

    Args:
        targets: of a `ReconstructionClient`, by the name of the protocol.
        photograph: RGB image, from which the requests are made.

    Attributes:
        failures: messages of failed requests.
    """

    def __init__(self, targets: dict[str, str], photograph: Image.Image):
        small, medium = photograph.resize(SMALL), photograph.resize(MEDIUM)
        pixels = {"small": np.asarray(small)[None], "medium": np.asarray(medium)[None]}
        pngs = {"small": encoded(small, "PNG"), "medium": encoded(medium, "PNG")}
        self._kinds: dict[str, tuple[ReconstructionClient, Callable[..., object]]] = {}
        for protocol, target in targets.items():
            client = ReconstructionClient(target, timeout=TIMEOUT_SECONDS, retries=0)
            for size in ("small", "medium"):
                calls: dict[str, Callable[[], object]] = {
                    "scores": lambda c=client, size=size: c.score([pngs[size]]),
                    "PNG": lambda c=client, size=size: c.reconstruct([pngs[size]], as_png=True),
                    "reconstruct": lambda c=client, size=size: c.reconstruct(pixels[size]),
                }
                for name, call in calls.items():
                    self._kinds[f"{protocol} {name} {size}"] = client, call
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(kind,)) for kind in self._kinds]
        self._seconds: Seconds = {kind: [] for kind in self._kinds}

    def clear(self) -> Seconds:
        """Forgets the times so far, and returns them."""
        seconds, self._seconds = self._seconds, {kind: [] for kind in self._kinds}
        return seconds

    def __enter__(self) -> "GoodClients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for client, _ in self._kinds.values():
            client.close()

    def _run(self, kind: str) -> None:
        _, call = self._kinds[kind]
        while not self._stop.wait(PAUSE_SECONDS):
            start = time.perf_counter()
            try:
                call()
            except ServingError as error:
                self.failures.append(f"{kind}: {error}")
            self._seconds[kind].append(time.perf_counter() - start)


def swap_versions(server: Server, stop: threading.Event) -> int:
    """Adds version 2 and removes it again until `stop` is set; returns how often it has served."""
    swaps = 0
    with ReconstructionClient(server.target) as client:
        while not stop.wait(SWAP_SECONDS):
            publish(server.base / "1", server.base / "2")
            wait_until(lambda: client.metadata().version == 2, "version 2 to serve")
            stop.wait(SWAP_SECONDS)
            shutil.rmtree(server.base / "2")
            wait_until(lambda: client.metadata().version == 1, "version 1 to serve again")
            swaps += 1
    return swaps


def soak(server: Server, seconds: float) -> bool:
    """Runs good clients alone, then beside the others; prints the results.

    Args:
        server: a server with version 1, which looks for versions every second.
        seconds: time beside the others; alone a tenth of it.

    Returns:
        Whether the test has passed.
    """
    process = psutil.Process(server.pid)
    targets = {"gRPC": server.target, "REST": server.url}
    photograph = Image.fromarray(load("sample")["test"][0])
    with GoodClients(targets, photograph) as good, ThreadPoolExecutor(1) as pool:
        # The first hostile requests fill caches of TensorFlow and arenas of malloc.
        attack(server, pool, WARM_UP_SECONDS)
        time.sleep(IDLE_SECONDS)
        before = process.memory_info().rss
        good.clear()
        time.sleep(max(seconds / 10, 15))
        idle = good.clear()
        counts, peak = attack(server, pool, seconds)
        busy = good.clear()
        time.sleep(IDLE_SECONDS)
    time.sleep(IDLE_SECONDS)
    after = process.memory_info().rss
    print_counts(counts)
    failures = [*good.failures, *print_latencies(idle, busy)]
    growth = after / before - 1
    print(
        f"\nresident MB of the server: {before / 1e6:,.0f} before, {peak / 1e6:,.0f} at most, "
        f"{after / 1e6:,.0f} after ({growth:+.1%})"
    )
    if growth > MAX_GROWTH:
        failures.append(f"memory may grow by {MAX_GROWTH:.0%}; it grew by {growth:.1%}")
    requests = sum(map(len, (*idle.values(), *busy.values())))
    print(f"{requests:,} good requests, {len(good.failures)} failed")
    print("\n".join(failures[:20]) or "passed")
    return not failures


def attack(
    server: Server, pool: ThreadPoolExecutor, seconds: float
) -> tuple[dict[str, dict[str, int]], int]:
    """Runs the hostile clients and the swaps; returns responses by client, and the peak of RSS."""
    stop, process, peak = threading.Event(), psutil.Process(server.pid), 0
    command = [sys.executable, "-m", "tests.endurance.hostile_clients", server.target, server.url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as clients:
        swaps = pool.submit(swap_versions, server, stop)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.1)
        stop.set()
        output, _ = clients.communicate()
    counts: dict[str, dict[str, int]] = json.loads(output)
    return {"hot swap": {"OK": swaps.result()}, **counts}, peak


def print_counts(counts: dict[str, dict[str, int]]) -> None:
    """Prints the responses of each hostile client."""
    for name, responses in counts.items():
        print(f"{name:<28} {', '.join(f'{count} {status}' for status, count in responses.items())}")


def print_latencies(idle: Seconds, busy: Seconds) -> list[str]:
    """Prints the latencies of the good clients; returns what is wrong with them."""
    print(
        f"\n{'':<24} {'requests':>8} {'alone p50 ms':>12} {'p99':>6} {'beside p50':>10} "
        f"{'p99':>6} {'ratio':>6} {'max':>6}"
    )
    failures = []
    idle, busy = ({**part, "all": list(itertools.chain(*part.values()))} for part in (idle, busy))
    for kind in idle:
        (p50, p99), (busy_p50, busy_p99) = (
            1000 * np.percentile(part[kind], (50, 99)) for part in (idle, busy)
        )
        longest, ratio = 1000 * max(busy[kind]), busy_p99 / p99
        print(
            f"{kind:<24} {len(busy[kind]):>8,} {p50:>12.1f} {p99:>6.1f} {busy_p50:>10.1f} "
            f"{busy_p99:>6.1f} {ratio:>6.1f} {longest:>6.0f}"
        )
    if ratio > MAX_RATIO:
        failures.append(f"p99 may be {MAX_RATIO:g} times as long; it is {ratio:.1f} times")
    if longest > 1000 * MAX_SECONDS:
        failures.append(f"a request may take {MAX_SECONDS:g} s; one took {longest:.0f} ms")
    return failures


def main() -> None:
    """Parses the command line and runs the test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--model", type=Path, help="a SavedModel; by default an untrained one")
    arguments = parser.parse_args()
    # A collection of this process's garbage would stop all good clients for up to seconds.
    gc.disable()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or export_untrained(presets.DEFAULT, Path(folder) / "model")
        with local_server(model) as server:
            print(machine())
            sys.exit(not soak(server, 60 * arguments.minutes))


if __name__ == "__main__":
    main()
