"""Slow and hostile clients of the local server, in a process of its own with a low priority.

    python -m tests.endurance.hostile_clients TARGET URL

They run until standard input is closed, each with a pause between its requests. Then the process
prints, as JSON, the number of responses by client and status.
"""

import base64
import contextlib
import gzip
import http.client
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable

import grpc
import numpy as np

from keras_ae import contract as c
from serving.wire import services
from serving.wire.protos import PredictRequest
from serving.wire.tensors import to_proto
from tests.corpus.pictures import encoded
from tests.endurance.hostile import request
from tests.endurance.storm import OPTIONS, TIMEOUT_SECONDS

PREDICT = "/v1/models/keras_ae:predict"
HUGE_SIZE = (7900, 7900)
CONNECTIONS = 150
"""Open connections of each kind of idle client; the server allows 500 on each port."""


class HostileClients:
    """The clients by name; each sends one request, or several, and returns a status.

    Args:
        target: "HOST:PORT" of gRPC.
        url: URL of REST up to the port.
    """

    def __init__(self, target: str, url: str):
        from PIL import Image

        self._target, self._rest = target, url.removeprefix("http://")
        channel = grpc.insecure_channel(target, OPTIONS)
        self._predict = services.stub(services.PREDICTION, channel).Predict
        self._huge = encoded(Image.new("RGB", HUGE_SIZE, (90, 120, 60)), "PNG")
        self.clients: dict[str, tuple[Callable[[], str], float]] = {
            "expired deadline, 7900x7900": (self.expired_deadline, 1),
            "expired deadline over REST": (self.expired_rest, 5),
            "16 million numbers in gzip": (self.numbers_in_gzip, 3),
            "7.9 million strings in b64": (self.many_strings, 5),
            "200 MB for an unknown model": (self.unknown_model, 5),
            "200 MB, cancelled": (self.cancelled_upload, 5),
            "hanging up amid a response": (self.hang_up, 0.5),
            "wrong signature": (self.wrong_signature, 0.2),
            "forged name": (self.forged_name, 0.2),
            "one byte at a time": (self.one_byte_at_a_time, 0),
            "idle and half a header": (self.idle_connections, 0.1),
            "gRPC without HTTP/2": (self.half_http2, 0.1),
        }

    def expired_deadline(self) -> str:
        images = request(c.SERVING_DEFAULT, **{c.IMAGE_BYTES: to_proto([self._huge])})
        return self._send(images, timeout=0.3)

    def expired_rest(self) -> str:
        text = base64.b64encode(self._huge).decode()
        body = json.dumps({"instances": [{"b64": text}]}).encode()
        return self._post(body, seconds=0.5)

    def numbers_in_gzip(self) -> str:
        body = gzip.compress(b'{"instances": [' + b"1," * 16_000_000 + b"1]}", 1)
        return self._post(body, {"Content-Encoding": "gzip"})

    def many_strings(self) -> str:
        return self._post(b'{"instances": [' + b",".join([b'{"b64":"AA"}'] * 7_900_000) + b"]}")

    def unknown_model(self) -> str:
        return self._send(_large_message())

    def cancelled_upload(self) -> str:
        call = self._predict.future(_large_message(), timeout=TIMEOUT_SECONDS)
        time.sleep(0.1)
        call.cancel()
        return "CANCELLED"

    def hang_up(self) -> str:
        pixels = np.zeros((1, 512, 512, 3), np.uint8).tolist()
        document = {"signature_name": c.RECONSTRUCT, "instances": pixels}
        connection = http.client.HTTPConnection(self._rest, timeout=TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            connection.request("POST", PREDICT, json.dumps(document))
            return f"HTTP {connection.getresponse().status}, unread"

    def wrong_signature(self) -> str:
        return self._send(request("no such signature"))

    def forged_name(self) -> str:
        forged = request(c.RECONSTRUCT)
        forged.model_spec.name = "x\n12:00:00 gRPC at 0.0.0.0:1\n" * 30
        return self._send(forged)

    def one_byte_at_a_time(self) -> str:
        with socket.create_connection(self._address(self._rest)) as connection:
            head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 200\r\n\r\n{"
            connection.sendall(head % PREDICT.encode())
            with contextlib.suppress(OSError):
                for _ in range(200):
                    connection.sendall(b" ")
                    time.sleep(0.05)
        return "closed"

    def idle_connections(self) -> str:
        return self._hold(self._rest, (b"", b"GET / HTT", b"POST / HTTP/1.1\r\nA: b\r\n"))

    def half_http2(self) -> str:
        return self._hold(self._target, (b"", b"PRI * HTTP/2.0\r\n\r\nSM"))

    def _hold(self, address: str, beginnings: tuple[bytes, ...]) -> str:
        with contextlib.ExitStack() as connections:
            for i in range(CONNECTIONS):
                connection = socket.create_connection(self._address(address), TIMEOUT_SECONDS)
                connections.enter_context(connection)
                connection.sendall(beginnings[i % len(beginnings)])
            time.sleep(5)
        return f"{CONNECTIONS} closed"

    @staticmethod
    def _address(address: str) -> tuple[str, int]:
        host, _, port = address.partition(":")
        return host, int(port)

    def _send(self, message: PredictRequest, timeout: float = TIMEOUT_SECONDS) -> str:
        try:
            self._predict(message, timeout=timeout)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"

    def _post(
        self, body: bytes, headers: dict[str, str] | None = None, seconds: float = TIMEOUT_SECONDS
    ) -> str:
        connection = http.client.HTTPConnection(self._rest, timeout=seconds)
        with contextlib.closing(connection):
            try:
                connection.request("POST", PREDICT, body, headers or {})
                response = connection.getresponse()
                response.read()
            except TimeoutError:
                return "hung up"
        return f"HTTP {response.status}"


def _large_message() -> PredictRequest:
    large = request(
        c.RECONSTRUCT, **{c.IMAGES: to_proto(np.zeros((1, 1, 200_000_000, 1), np.uint8))}
    )
    large.model_spec.name = "unknown"
    return large


def main() -> None:
    """Runs all clients, a thread for each, until standard input is closed."""
    os.nice(19)
    stop = threading.Event()
    counts: dict[str, Counter[str]] = {}

    def repeat(name: str, send: Callable[[], str], pause_seconds: float) -> None:
        counts[name] = Counter()
        while not stop.is_set():
            try:
                counts[name][send()] += 1
            except Exception as error:
                counts[name][type(error).__name__] += 1
                traceback.print_exc()
            stop.wait(pause_seconds)

    clients = HostileClients(*sys.argv[1:]).clients
    threads = [
        threading.Thread(target=repeat, args=(name, send, pause_seconds))
        for name, (send, pause_seconds) in clients.items()
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
