"""The client over REST against HTTP servers that do as they are told."""

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


class Scripted(ThreadingHTTPServer):
    """Answers decode requests, after the statuses or events of its script.

    Attributes:
        script: what to do first: a status, a body of bytes with 200, or an event to wait for.
        seen: paths and headers that came.
    """

    daemon_threads = True

    def __init__(self, context=None):
        self.script, self.seen = [], []
        super().__init__(("127.0.0.1", 0), Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        scheme = "http" if context is None else "https"
        self.target = f"{scheme}://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def handle_error(self, request, client_address):
        """A client that goes away is no news."""

    def stop(self):
        self.shutdown()
        self._thread.join()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append((self.path, dict(self.headers)))
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
        """Tests are quiet."""


@pytest.fixture
def server():
    made = Scripted()
    yield made
    made.stop()


def decode(target, **options):
    with ReconstructionClient(target, **options) as client:
        return client.decode(LATENTS)


def decode_async(target, **options):
    async def ask():
        async with AsyncReconstructionClient(target, **options) as client:
            return await client.decode(LATENTS)

    return asyncio.run(ask())


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

both = pytest.mark.parametrize("ask", [decode, decode_async])


@both
def test_an_unavailable_server_is_asked_again(server, ask):
    server.script = [503, 502]
    assert (ask(server.target) == 7).all()
    assert len(server.seen) == 3


@both
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
def test_another_status_becomes_its_error_at_once(server, ask, status, kind):
    server.script = [status]
    with pytest.raises(kind, match=f"HTTP {status}, scripted {status}") as caught:
        ask(server.target)
    assert type(caught.value) is kind
    assert server.target in str(caught.value)
    assert len(server.seen) == 1


@both
@pytest.mark.parametrize("body", BODIES)
def test_an_answer_that_makes_no_sense_is_an_error(server, ask, body):
    server.script = [body]
    with pytest.raises(e.ServerError, match="cannot be read"):
        ask(server.target)


@both
def test_a_server_that_does_not_answer_meets_the_deadline(server, ask):
    held = threading.Event()
    server.script = [held]
    try:
        with pytest.raises(e.DeadlineError, match=r"within 0\.3 s"):
            ask(server.target, timeout=0.3)
    finally:
        held.set()


@both
def test_model_version_and_label_are_in_the_path(server, ask):
    ask(server.target, model="a/b c", version=7)
    ask(server.target + "/prefix/", model="m", label="new one")
    assert [path for path, _ in server.seen] == [
        "/v1/models/a%2Fb%20c/versions/7:predict",
        "/prefix/v1/models/m/labels/new%20one:predict",
    ]


@both
def test_tls_with_a_token(tmp_path, ask):
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
    server = Scripted(context)
    try:
        assert (ask(server.target, ca_certificate=cert, token="secret") == 7).all()
        assert server.seen[0][1]["authorization"] == "Bearer secret"
        with pytest.raises(e.UnavailableError, match=r"(?i)certificate"):
            ask(server.target, token="secret", retries=0)
        assert len(server.seen) == 1
    finally:
        server.stop()
