"""Storms against the local server: broken images and tensors, bad REST, versions under load.

    python -m tests.endurance.storms

The server must live, answer each request with a clear error or a right result, and answer the next
good request with the same bytes as before. The status is 1 if it did not.
"""

import argparse
import http.client
import io
import math
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from benchmarks.data import load
from benchmarks.servers import local_server
from benchmarks.serving import untrained
from keras_ae import contract as c
from keras_ae import presets
from serving.wire import services
from serving.wire.protos import PredictRequest
from serving.wire.tensors import to_array, to_proto
from tests.endurance import hostile

TIMEOUT = 60
BATCH = 16
REST = 5
"""Seconds in which a server may tidy up before its memory is read."""
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class StressError(Exception):
    """What the server did wrong."""


class Storm:
    """Requests to one server, each followed by a look at whether a good one is still right.

    Args:
        target: HOST:PORT of gRPC.
        url: of REST, up to the port.
        pid: of the server's process.
        photograph: RGB image that good requests are made of.
    """

    def __init__(self, target: str, url: str, pid: int, photograph: Image.Image):
        self.url, self._pid = url, pid
        self.photograph = photograph.resize((96, 64))
        self._good = hostile.encoded(self.photograph, "PNG")
        channel = grpc.insecure_channel(target, OPTIONS)
        self._predict = services.stub(services.PREDICTION, channel).Predict
        self.expected = self.answer([self._good])

    def answer(self, images: list[bytes]) -> dict[str, np.ndarray]:
        """`serving_default` of encoded images."""
        return self.send(hostile.request(c.SERVING_DEFAULT, **{c.IMAGE_BYTES: to_proto(images)}))

    def send(self, request: PredictRequest) -> dict[str, np.ndarray]:
        """The outputs of a request; raises grpc.RpcError."""
        response = self._predict(request, timeout=TIMEOUT)
        return {name: to_array(tensor) for name, tensor in response.outputs.items()}

    def version(self, request: PredictRequest) -> int:
        """The version that answers a request."""
        return int(self._predict(request, timeout=TIMEOUT).model_spec.version.value)

    def check_good(self, after: str) -> None:
        """Raises StressError unless the good request has the answer that it had at first."""
        answers = self.answer([self._good])
        for name, expected in self.expected.items():
            if not np.array_equal(answers[name], expected, equal_nan=expected.dtype != object):
                raise StressError(f"after {after} the good request has another {name}")

    def memory(self) -> int:
        """Resident bytes of the server."""
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def unusual_images(storm: Storm) -> Counter[str]:
    """Each unusual image is answered with pixels of its size."""
    counts: Counter[str] = Counter()
    for name, data in hostile.unusual_images(storm.photograph).items():
        _check_image(data, storm.answer([data]), 0, name)
        storm.check_good(name)
        counts["answered"] += 1
    return counts


def broken_images(storm: Storm) -> Counter[str]:
    """Each broken image gets a status, alone and beside a good one."""
    counts: Counter[str] = Counter()
    good = hostile.encoded(storm.photograph, "PNG")
    for name, data in hostile.broken_images(storm.photograph).items():
        answers = storm.answer([data, good])
        if not answers[c.STATUS][0] or answers[c.STATUS][1]:
            raise StressError(f"{name}: the statuses are {answers[c.STATUS].tolist()}")
        _check_image(data, answers, 0, name)
        storm.check_good(name)
        counts["status"] += 1
    return counts


def mutated_images(storm: Storm, count: int, seed: int = 0) -> Counter[str]:
    """Mutated files in batches with a good one: a status or a right result for each."""
    counts: Counter[str] = Counter()
    good = hostile.encoded(storm.photograph, "PNG")
    mutants = list(hostile.mutants(storm.photograph, count, seed))
    for at in _progress(range(0, count, BATCH), "mutated images"):
        batch = mutants[at : at + BATCH]
        answers = storm.answer([*batch, good])
        for i, data in enumerate(batch):
            name = f"mutant {at + i}"
            counts["status" if _check_image(data, answers, i, name) else "answered"] += 1
        if answers[c.RECONSTRUCTION_PNG_BYTES][-1] != storm.expected[c.RECONSTRUCTION_PNG_BYTES][0]:
            raise StressError(f"the good image beside mutants {at} to {at + BATCH} differs")
    storm.check_good("the mutated images")
    return counts


def _check_image(data: bytes, answers: dict[str, np.ndarray], i: int, name: str) -> bool:
    """Whether the image was refused; raises StressError for an answer that is neither."""
    status, png = answers[c.STATUS][i], answers[c.RECONSTRUCTION_PNG_BYTES][i]
    scores = [float(answers[score][i]) for score in (c.MSE, c.PSNR)]
    if status:
        if png or not all(map(math.isnan, scores)):
            raise StressError(f"{name}: refused with {status!r}, yet answered")
        return True
    size = Image.open(io.BytesIO(png)).size
    try:
        right = Image.open(io.BytesIO(data)).size
    except (UnidentifiedImageError, SyntaxError, OSError, ValueError):
        # Pillow refuses some headers that other decoders read.
        right = size
    if size != right or not all(map(math.isfinite, scores)):
        raise StressError(f"{name}: {right} came back as {size} with {scores}")
    return False


def bad_tensors(storm: Storm) -> Counter[str]:
    """Each bad tensor is an INVALID_ARGUMENT with a message."""
    counts: Counter[str] = Counter()
    for name, request in hostile.bad_tensors().items():
        code = _refusal(storm, request, name)
        if code != "INVALID_ARGUMENT":
            raise StressError(f"{name}: {code}")
        storm.check_good(name)
        counts[code] += 1
    unknown = hostile.request(c.RECONSTRUCT)
    unknown.model_spec.name = "a" * 1_000_000
    counts[_refusal(storm, unknown, "a model name of 1 MB")] += 1
    storm.check_good("a model name of 1 MB")
    return counts


def random_tensors(storm: Storm, count: int, seed: int = 0, concurrency: int = 8) -> Counter[str]:
    """Random requests, several at once: an answer, or a code that says whose fault it is."""
    allowed = {"OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION"}
    counts: Counter[str] = Counter()
    requests = enumerate(hostile.random_requests(count, seed))
    with ThreadPoolExecutor(concurrency) as pool:
        codes = pool.map(lambda item: _refusal(storm, item[1], f"random {item[0]}"), requests)
        counts.update(_progress(codes, "random tensors", count))
    if set(counts) - allowed:
        raise StressError(f"random tensors were answered with {dict(counts)}")
    storm.check_good("the random tensors")
    return counts


def _refusal(storm: Storm, request: PredictRequest, name: str) -> str:
    try:
        storm.send(request)
    except grpc.RpcError as error:
        if not error.details():
            raise StressError(f"{name}: {error.code()} without a message") from error
        return str(error.code().name)
    return "OK"


def bad_rest(storm: Storm) -> Counter[str]:
    """Each bad body, name and path gets an HTTP status of a caller's fault and an error."""
    counts: Counter[str] = Counter()
    for name, (body, headers) in hostile.bad_bodies().items():
        _count_refusal(counts, name, _post(storm.url, "/v1/models/keras_ae:predict", body, headers))
    for name in ("../../etc", "%2F..%2F", "%00"):
        path = f"/v1/models/{name}:predict"
        _count_refusal(counts, name, _post(storm.url, path, b'{"instances": [1]}', {}))
    # A server need not read all of a request that it refuses.
    with suppress(ConnectionResetError, BrokenPipeError):
        path = f"/v1/models/{'a' * 1_000_000}:predict"
        _count_refusal(counts, "a name of 1 MB", _post(storm.url, path, b"{}", {}))
    storm.check_good("bad REST requests")
    return counts


def _post(url: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """The status and the body of an answer; the path goes out as it stands."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT)
    with closing(connection):
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()


def _count_refusal(counts: Counter[str], name: str, answer: tuple[int, bytes]) -> None:
    status, text = answer
    if not 400 <= status < 500:
        raise StressError(f"{name}: HTTP {status} {text[:200]!r}")
    if not text:
        raise StressError(f"{name}: HTTP {status} without a message")
    counts[str(status)] += 1


def cancelled_requests(storm: Storm, target: str, count: int) -> Counter[str]:
    """Requests that are given up at once, or whose deadline has all but passed."""
    counts: Counter[str] = Counter()
    pixels = np.zeros((8, 256, 256, 3), np.uint8)
    request = hostile.request(c.RECONSTRUCT, **{c.IMAGES: to_proto(pixels)})
    with grpc.insecure_channel(target, OPTIONS) as channel:
        predict = services.stub(services.PREDICTION, channel).Predict
        for i in range(count):
            call = predict.future(request, timeout=0.005 if i % 2 else TIMEOUT)
            if not i % 2:
                call.cancel()
            try:
                call.result()
            except grpc.FutureCancelledError:
                counts["CANCELLED"] += 1
            except grpc.RpcError as error:
                counts[str(error.code().name)] += 1
            else:
                counts["OK"] += 1
    storm.check_good("cancelled requests")
    return counts


def slow_streams(storm: Storm, target: str, count: int) -> Counter[str]:
    """Connections that begin a request and never end it hold up no other."""
    begun = {
        storm.url.removeprefix("http://"): (
            b"POST /v1/models/keras_ae:predict HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 1000\r\n\r\n{"
        ),
        target: b"PRI * HTTP/2.0\r\n\r\nSM",
    }
    with ExitStack() as open_ones:
        for address, start in begun.items():
            host, port = address.split(":")
            for _ in range(count):
                connection = open_ones.enter_context(socket.create_connection((host, int(port))))
                connection.sendall(start)
        storm.check_good("connections that do not go on")
    storm.check_good("connections that broke off")
    return Counter({"open": count * len(begun)})


class Load:
    """Requests from several threads until it is told to stop; counts versions and failures."""

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
                    response = stub.Predict(request, timeout=TIMEOUT)
                except grpc.RpcError as error:
                    self.failures.append(f"{error.code()}: {error.details()}")
                else:
                    self.versions[response.model_spec.version.value] += 1


def hot_swap(
    storm: Storm, target: str, base: Path, seconds: float, threads: int = 4
) -> Counter[str]:
    """Adds a good version, a corrupt one, and removes both, again and again under load.

    Args:
        base: folder of the server's versions, with version 1 in it.
        seconds: how long; the round that is under way is finished.
        threads: that send requests.
    """
    counts: Counter[str] = Counter()
    began = time.monotonic()
    with Load(target, threads) as load:
        while not counts["rounds"] or time.monotonic() - began < seconds:
            _publish(base / "1", base / "2")
            _wait(lambda: _version(storm) == 2, "version 2 to serve")
            _publish(base / "1", base / "3", corrupt=True)
            _wait(lambda: _state(storm, 3) == "END", "version 3 to fail")
            if _version(storm) != 2:
                raise StressError("a corrupt version took the place of a good one")
            shutil.rmtree(base / "3")
            shutil.rmtree(base / "2")
            _wait(lambda: _version(storm) == 1, "version 1 to serve again")
            counts["rounds"] += 1
    if load.failures:
        raise StressError(f"{len(load.failures)} requests failed, such as {load.failures[0]}")
    if set(load.versions) != {1, 2}:
        raise StressError(f"the versions that answered are {dict(load.versions)}")
    storm.check_good("the swaps")
    return counts + Counter({"requests": load.versions.total()})


def _publish(model: Path, version: Path, *, corrupt: bool = False) -> None:
    incoming = version.with_name(f".incoming-{version.name}")
    shutil.copytree(model, incoming)
    if corrupt:
        shutil.rmtree(incoming / "variables")
    incoming.rename(version)


def _version(storm: Storm) -> int:
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    return storm.version(hostile.request(c.RECONSTRUCT, **{c.IMAGES: to_proto(pixels)}))


def _state(storm: Storm, version: int) -> str:
    response = httpx.get(f"{storm.url}/v1/models/keras_ae/versions/{version}", timeout=TIMEOUT)
    if response.status_code != 200:
        return ""
    return str(response.json()["model_version_status"][0]["state"])


def _wait(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not reached():
        if time.monotonic() > deadline:
            raise StressError(f"waited {TIMEOUT} s for {what}")
        time.sleep(0.05)


def _progress(items: Iterable[Any], name: str, total: int | None = None) -> Iterable[Any]:
    return tqdm(items, name, total, disable=not sys.stderr.isatty())


def main() -> None:
    """Runs every storm in full and prints what was answered how often."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a SavedModel; without it an untrained one")
    parser.add_argument("--mutants", type=int, default=10_000, help="mutated image files")
    parser.add_argument("--tensors", type=int, default=10_000, help="requests with random tensors")
    parser.add_argument("--seconds", type=float, default=60, help="of versions that come and go")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    photograph = Image.fromarray(load("sample")["test"][0])
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or untrained(presets.DEFAULT, Path(folder) / "model")
        # Loading is retried for minutes otherwise, while the version is not given up.
        with local_server(model, ["--max_num_load_retries=0"]) as server:
            storm = Storm(server.target, server.url, server.pid, photograph)
            storms: dict[str, Callable[[int], Counter[str]]] = {
                "unusual images": lambda share: unusual_images(storm),
                "broken images": lambda share: broken_images(storm),
                "bad tensors": lambda share: bad_tensors(storm),
                "bad REST": lambda share: bad_rest(storm),
                "cancelled": lambda share: cancelled_requests(storm, server.target, 200 // share),
                "slow streams": lambda share: slow_streams(storm, server.target, 100 // share),
                "mutated images": lambda share: mutated_images(
                    storm, arguments.mutants // share, arguments.seed
                ),
                "random tensors": lambda share: random_tensors(
                    storm, arguments.tensors // share, arguments.seed
                ),
            }
            # TensorFlow keeps what it prepared for a shape, in caches that are full at some time.
            for run in storms.values():
                run(2)
            hot_swap(storm, server.target, server.base, 0)
            time.sleep(REST)
            before = storm.memory()
            for name, run in storms.items():
                print(f"{name:<16} {dict(run(1))}", flush=True)
            swaps = hot_swap(storm, server.target, server.base, arguments.seconds)
            print(f"{'hot swap':<16} {dict(swaps)}")
            time.sleep(REST)
            after = storm.memory()
    growth = after / before - 1
    print(f"memory of the server: {before / 1e6:,.0f} MB, {after / 1e6:,.0f} after ({growth:+.1%})")
    if growth > 0.1:
        raise StressError("the memory did not return to within 10 %")


if __name__ == "__main__":
    main()
