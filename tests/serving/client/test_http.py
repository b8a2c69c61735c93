"""The client over REST with scripted HTTP servers."""

import asyncio
import json
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from keras_ae import errors as e
from serving.client.asynchronous import AsyncReconstructionClient
from serving.client.blocking import ReconstructionClient

LATENTS = np.zeros((1, 2, 2, 8), np.float32)


class ScriptedServer(ThreadingHTTPServer):
    """Answers decode requests, after the steps of its script.

    Attributes:
        script: steps of the next requests: a status, a body with status 200, or an event to wait
            for.
        received: paths and headers of the requests.
    """

    daemon_threads = True

    def __init__(self, context=None):
        self.script, self.received = [], []
        super().__init__(("127.0.0.1", 0), Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        scheme = "http" if context is None else "https"
        self.target = f"{scheme}://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def handle_error(self, request, client_address):
        """Ignores clients that close the connection."""

    def stop(self):
        self.shutdown()
        self._thread.join()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, dict(self.headers)))
        step = self.server.script.pop(0) if self.server.script else 200
        body = json.dumps({"outputs": np.full((1, 16, 16, 3), 7).tolist()}).encode()
        if isinstance(step, threading.Event):
            step.wait()
            step = 200
        if isinstance(step, bytes):
            step, body = 200, step
        elif step != 200:
            body = json.dumps({"error": f"scripted {step}"}).encode()
        self.send_response(step)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Logs nothing."""


@pytest.fixture
def server():
    server = ScriptedServer()
    yield server
    server.stop()


def decode(target, **options):
    with ReconstructionClient(target, **options) as client:
        return client.decode(LATENTS)


def decode_async(target, **options):
    async def run():
        async with AsyncReconstructionClient(target, **options) as client:
            return await client.decode(LATENTS)

    return asyncio.run(run())


BODIES = [
    *(
        b"<html>",
        b"[]",
        b'{"outputs": 3}',
        b'{"outputs": [[[[300]]]]}',
        b'{"outputs": [[1], [1, 2]]}',
    ),
    b'{"outputs": {"x": [1]}}',
]

both_clients = pytest.mark.parametrize("decode", [decode, decode_async])


@both_clients
def test_an_unavailable_server_is_retried(server, decode):
    server.script = [503, 502]
    assert (decode(server.target) == 7).all()
    assert len(server.received) == 3


@both_clients
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, e.InvalidRequestError),
        (401, e.AccessError),
        (403, e.AccessError),
        (404, e.NotFoundError),
        (413, e.LimitError),
        (429, e.LimitError),
        (500, e.ServerError),
        (501, e.ServerError),
        (504, e.DeadlineError),
        (418, e.ServerError),
    ],
)
def test_each_http_status_raises_its_error_without_a_retry(server, decode, status, kind):
    server.script = [status]
    with pytest.raises(kind, match=f"HTTP {status}, scripted {status}") as caught:
        decode(server.target)
    assert type(caught.value) is kind
    assert server.target in str(caught.value)
    assert len(server.received) == 1


@both_clients
@pytest.mark.parametrize("body", BODIES)
def test_an_invalid_response_is_an_error(server, decode, body):
    server.script = [body]
    with pytest.raises(e.ServerError, match="cannot be read"):
        decode(server.target)


@both_clients
def test_a_server_that_does_not_respond_is_a_deadline_error(server, decode):
    release = threading.Event()
    server.script = [release]
    try:
        with pytest.raises(e.DeadlineError, match=r"within 0\.3 s"):
            decode(server.target, timeout=0.3)
    finally:
        release.set()


@both_clients
def test_model_version_and_label_are_in_the_path(server, decode):
    decode(server.target, model="a/b c", version=7)
    decode(server.target + "/prefix/", model="m", label="new one")
    assert [path for path, _ in server.received] == [
        "/v1/models/a%2Fb%20c/versions/7:predict",
        "/prefix/v1/models/m/labels/new%20one:predict",
    ]


@both_clients
def test_tls_with_a_token(tmp_path, decode):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout", key, "-out", cert),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = ScriptedServer(context)
    try:
        assert (decode(server.target, ca_certificate=cert, token="secret") == 7).all()
        assert server.received[0][1]["authorization"] == "Bearer secret"
        with pytest.raises(e.UnavailableError, match=r"(?i)certificate"):
            decode(server.target, token="secret", retries=0)
        assert len(server.received) == 1
    finally:
        server.stop()
