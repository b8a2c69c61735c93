"""Versions that come and go under load."""

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import numpy as np

from keras_ae import contract as c
from serving.wire import services
from serving.wire.tensors import to_proto
from tests.endurance import hostile
from tests.endurance.storm import OPTIONS, TIMEOUT_SECONDS, Storm, StressError


class Load:
    """Threads that send requests until the end of the block.

    Args:
        target: "HOST:PORT" of gRPC.
        threads: number of threads.

    Attributes:
        versions: number of responses by version.
        failures: messages of failed requests.
    """

    def __init__(self, target: str, threads: int):
        self.versions: Counter[int] = Counter()
        self.failures: list[str] = []
        self._target, self._stop = target, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        pixels = np.zeros((4, 64, 64, 3), np.uint8)
        request = hostile.request(c.RECONSTRUCT, **{c.IMAGES: to_proto(pixels)})
        with grpc.insecure_channel(self._target, OPTIONS) as channel:
            stub = services.stub(services.PREDICTION, channel)
            while not self._stop.is_set():
                try:
                    response = stub.Predict(request, timeout=TIMEOUT_SECONDS)
                except grpc.RpcError as error:
                    self.failures.append(f"{error.code()}: {error.details()}")
                else:
                    self.versions[response.model_spec.version.value] += 1


def hot_swap(
    storm: Storm, target: str, base: Path, seconds: float, threads: int = 4
) -> Counter[str]:
    """Adds a good version and a corrupt one and removes both, repeatedly under load.

    Args:
        storm: requests to the server.
        target: "HOST:PORT" of gRPC.
        base: folder of the server's versions, with version 1 in it.
        seconds: time after which no further round begins; there is at least one.
        threads: number of threads that send requests.
    """
    counts: Counter[str] = Counter()
    start = time.monotonic()
    with Load(target, threads) as load:
        while not counts["rounds"] or time.monotonic() - start < seconds:
            publish(base / "1", base / "2")
            wait_until(lambda: _version(storm) == 2, "version 2 to serve")
            publish(base / "1", base / "3", corrupt=True)
            wait_until(lambda: _state(storm, 3) == "END", "version 3 to fail")
            if _version(storm) != 2:
                raise StressError("a corrupt version replaced a good one")
            shutil.rmtree(base / "3")
            shutil.rmtree(base / "2")
            wait_until(lambda: _version(storm) == 1, "version 1 to serve again")
            counts["rounds"] += 1
    if load.failures:
        raise StressError(f"{len(load.failures)} requests failed, such as {load.failures[0]}")
    if set(load.versions) != {1, 2}:
        raise StressError(f"expected responses of versions 1 and 2; got {dict(load.versions)}")
    storm.check_good("the swaps")
    return counts + Counter({"requests": load.versions.total()})


def publish(model: Path, version: Path, *, corrupt: bool = False) -> None:
    """Adds a copy of a version atomically; `corrupt` leaves out its variables."""
    incoming = version.with_name(f".incoming-{version.name}")
    shutil.copytree(model, incoming)
    if corrupt:
        shutil.rmtree(incoming / "variables")
    incoming.rename(version)


def _version(storm: Storm) -> int:
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    return storm.version(hostile.request(c.RECONSTRUCT, **{c.IMAGES: to_proto(pixels)}))


def _state(storm: Storm, version: int) -> str:
    url = f"{storm.url}/v1/models/keras_ae/versions/{version}"
    response = httpx.get(url, timeout=TIMEOUT_SECONDS)
    if response.status_code != 200:
        return ""
    return str(response.json()["model_version_status"][0]["state"])


def wait_until(condition: Callable[[], bool], description: str) -> None:
    """Waits for a condition; raises StressError if it takes longer than `TIMEOUT_SECONDS`."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise StressError(f"waited {TIMEOUT_SECONDS} s for {description}")
        time.sleep(0.05)
