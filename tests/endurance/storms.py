"""A stress test of the local server: bad images and tensors, bad REST, versions that change.

    python -m tests.endurance.storms

The server must stay alive, answer each request with a clear error or a correct result, and answer
the next good request with the same bytes as before. The exit status is 1 if it does not.
"""

import argparse
import http.client
import io
import math
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from benchmarks.data import load
from benchmarks.servers import local_server
from benchmarks.serving import export_untrained
from keras_ae import contract as c
from keras_ae import presets
from serving.wire import services
from serving.wire.protos import PredictRequest
from serving.wire.tensors import to_proto
from tests.corpus.pictures import encoded
from tests.endurance import hostile, swaps
from tests.endurance.storm import OPTIONS, TIMEOUT_SECONDS, Storm, StressError

BATCH_SIZE = 16
IDLE_SECONDS = 12
"""Time for the server to free memory before it is read."""


def unusual_images(storm: Storm) -> Counter[str]:
    """Sends unusual images; each reconstruction must have the size of its image."""
    counts: Counter[str] = Counter()
    for name, data in hostile.unusual_images(storm.photograph).items():
        _check_image(data, storm.predict([data]), 0, name)
        storm.check_good(name)
        counts["answered"] += 1
    return counts


def broken_images(storm: Storm) -> Counter[str]:
    """Sends broken images, each with a good one; each broken one must get a status."""
    counts: Counter[str] = Counter()
    good = encoded(storm.photograph, "PNG")
    for name, data in hostile.broken_images(storm.photograph).items():
        outputs = storm.predict([data, good])
        if not outputs[c.STATUS][0] or outputs[c.STATUS][1]:
            raise StressError(f"{name}: the statuses are {outputs[c.STATUS].tolist()}")
        _check_image(data, outputs, 0, name)
        storm.check_good(name)
        counts["status"] += 1
    return counts


def mutated_images(storm: Storm, count: int, seed: int = 0) -> Counter[str]:
    """Sends mutated files in batches with a good one; each gets a status or a correct result."""
    counts: Counter[str] = Counter()
    good = encoded(storm.photograph, "PNG")
    mutants = list(hostile.mutants(storm.photograph, count, seed))
    for start in _progress(range(0, count, BATCH_SIZE), "mutated images"):
        batch = mutants[start : start + BATCH_SIZE]
        outputs = storm.predict([*batch, good])
        for i, data in enumerate(batch):
            name = f"mutant {start + i}"
            counts["status" if _check_image(data, outputs, i, name) else "answered"] += 1
        if outputs[c.RECONSTRUCTION_PNG_BYTES][-1] != storm.expected[c.RECONSTRUCTION_PNG_BYTES][0]:
            raise StressError(
                f"the good image in the batch of mutants {start} to {start + BATCH_SIZE} differs"
            )
    storm.check_good("the mutated images")
    return counts


def _check_image(data: bytes, outputs: dict[str, np.ndarray], i: int, name: str) -> bool:
    """Whether image i was refused; raises StressError if its outputs are inconsistent."""
    status, png = outputs[c.STATUS][i], outputs[c.RECONSTRUCTION_PNG_BYTES][i]
    scores = [float(outputs[score][i]) for score in (c.MSE, c.PSNR)]
    if status:
        if png or not all(map(math.isnan, scores)):
            raise StressError(f"{name}: there are outputs in spite of the status {status!r}")
        return True
    size = Image.open(io.BytesIO(png)).size
    try:
        expected = Image.open(io.BytesIO(data)).size
    except (UnidentifiedImageError, SyntaxError, OSError, ValueError):
        # TensorFlow's decoders accept headers that Pillow refuses.
        expected = size
    if size != expected or not all(map(math.isfinite, scores)):
        raise StressError(f"{name}: expected the size {expected}; got {size} with {scores}")
    return False


def bad_tensors(storm: Storm) -> Counter[str]:
    """Sends bad tensors; each must be refused with INVALID_ARGUMENT and a message."""
    counts: Counter[str] = Counter()
    for name, request in hostile.bad_tensors().items():
        code = _status_code(storm, request, name)
        if code != "INVALID_ARGUMENT":
            raise StressError(f"{name}: {code}")
        storm.check_good(name)
        counts[code] += 1
    unknown = hostile.request(c.RECONSTRUCT)
    unknown.model_spec.name = "a" * 1_000_000
    counts[_status_code(storm, unknown, "a model name of 1 MB")] += 1
    storm.check_good("a model name of 1 MB")
    return counts


def random_tensors(storm: Storm, count: int, seed: int = 0, concurrency: int = 8) -> Counter[str]:
    """Sends random requests concurrently; each gets a result or the code of a client's error."""
    allowed = {"OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION"}
    counts: Counter[str] = Counter()
    requests = enumerate(hostile.random_requests(count, seed))
    with ThreadPoolExecutor(concurrency) as pool:
        codes = pool.map(lambda item: _status_code(storm, item[1], f"random {item[0]}"), requests)
        counts.update(_progress(codes, "random tensors", count))
    if set(counts) - allowed:
        raise StressError(f"the status codes of random tensors were {dict(counts)}")
    storm.check_good("the random tensors")
    return counts


def _status_code(storm: Storm, request: PredictRequest, name: str) -> str:
    """The status code of a response; raises StressError for an error without a message."""
    try:
        storm.send(request)
    except grpc.RpcError as error:
        if not error.details():
            raise StressError(f"{name}: {error.code()} without a message") from error
        return str(error.code().name)
    return "OK"


def bad_rest(storm: Storm) -> Counter[str]:
    """Sends bad bodies, names and paths; each must get an HTTP status 4xx with a message."""
    counts: Counter[str] = Counter()
    for name, (body, headers) in hostile.bad_bodies().items():
        response = _post(storm.url, "/v1/models/keras_ae:predict", body, headers)
        _count_refusal(counts, name, response)
    for name in ("../../etc", "%2F..%2F", "%00"):
        path = f"/v1/models/{name}:predict"
        _count_refusal(counts, name, _post(storm.url, path, b'{"instances": [1]}', {}))
    # The server may close the connection before it has read all of a request that it refuses.
    with suppress(ConnectionResetError, BrokenPipeError):
        path = f"/v1/models/{'a' * 1_000_000}:predict"
        _count_refusal(counts, "a name of 1 MB", _post(storm.url, path, b"{}", {}))
    storm.check_good("bad REST requests")
    return counts


def _post(url: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """Sends a request without normalizing its path; returns status and body of the response."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT_SECONDS)
    with closing(connection):
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()


def _count_refusal(counts: Counter[str], name: str, response: tuple[int, bytes]) -> None:
    status, text = response
    if not 400 <= status < 500:
        raise StressError(f"{name}: HTTP {status} {text[:200]!r}")
    if not text:
        raise StressError(f"{name}: HTTP {status} without a message")
    counts[str(status)] += 1


def cancelled_requests(storm: Storm, target: str, count: int) -> Counter[str]:
    """Sends requests that are cancelled at once, or that have a deadline of a few milliseconds."""
    counts: Counter[str] = Counter()
    pixels = np.zeros((8, 256, 256, 3), np.uint8)
    request = hostile.request(c.RECONSTRUCT, **{c.IMAGES: to_proto(pixels)})
    with grpc.insecure_channel(target, OPTIONS) as channel:
        predict = services.stub(services.PREDICTION, channel).Predict
        for i in range(count):
            call = predict.future(request, timeout=0.005 if i % 2 else TIMEOUT_SECONDS)
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
    """Opens connections with incomplete requests; they must not block other requests."""
    incomplete = {
        storm.url.removeprefix("http://"): (
            b"POST /v1/models/keras_ae:predict HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 1000\r\n\r\n{"
        ),
        target: b"PRI * HTTP/2.0\r\n\r\nSM",
    }
    with ExitStack() as connections:
        for address, data in incomplete.items():
            host, port = address.split(":")
            for _ in range(count):
                connection = socket.create_connection((host, int(port)))
                connections.enter_context(connection).sendall(data)
        storm.check_good("opening connections with incomplete requests")
    storm.check_good("closing connections with incomplete requests")
    return Counter({"open": count * len(incomplete)})


def _progress(items: Iterable[Any], name: str, total: int | None = None) -> Iterable[Any]:
    return tqdm(items, name, total, disable=not sys.stderr.isatty())


def main() -> None:
    """Parses the command line, runs all storms and prints counts of their responses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a SavedModel; by default an untrained one")
    parser.add_argument("--mutants", type=int, default=10_000, help="number of mutated images")
    parser.add_argument("--tensors", type=int, default=10_000, help="number of random requests")
    parser.add_argument("--seconds", type=float, default=60, help="duration of the hot swaps")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    photograph = Image.fromarray(load("sample")["test"][0])
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or export_untrained(presets.DEFAULT, Path(folder) / "model")
        # By default the server retries for minutes before it gives up the corrupt version.
        with local_server(model, ["--max_num_load_retries=0"]) as server:
            storm = Storm(server.target, server.url, server.pid, photograph)
            kinds: dict[str, Callable[[int], Counter[str]]] = {
                "unusual images": lambda divisor: unusual_images(storm),
                "broken images": lambda divisor: broken_images(storm),
                "bad tensors": lambda divisor: bad_tensors(storm),
                "bad REST": lambda divisor: bad_rest(storm),
                "cancelled": lambda divisor: cancelled_requests(
                    storm, server.target, 200 // divisor
                ),
                "slow streams": lambda divisor: slow_streams(storm, server.target, 100 // divisor),
                "mutated images": lambda divisor: mutated_images(
                    storm, arguments.mutants // divisor, arguments.seed
                ),
                "random tensors": lambda divisor: random_tensors(
                    storm, arguments.tensors // divisor, arguments.seed
                ),
            }
            # TensorFlow caches data for each shape; these caches are filled first, so that they do
            # not count as growth.
            for run in kinds.values():
                run(2)
            swaps.hot_swap(storm, server.target, server.base, 0)
            time.sleep(IDLE_SECONDS)
            before = storm.memory()
            for name, run in kinds.items():
                print(f"{name:<16} {dict(run(1))}", flush=True)
            counts = swaps.hot_swap(storm, server.target, server.base, arguments.seconds)
            print(f"{'hot swap':<16} {dict(counts)}")
            time.sleep(IDLE_SECONDS)
            after = storm.memory()
    growth = after / before - 1
    print(f"memory of the server: {before / 1e6:,.0f} MB, {after / 1e6:,.0f} after ({growth:+.1%})")
    if growth > 0.1:
        raise StressError(f"memory may grow by 10 %; it grew by {growth:.1%}")


if __name__ == "__main__":
    main()
