"""The client with scripted gRPC servers: failures, deadlines, tokens, TLS, order."""

import asyncio
import datetime
import io
import ipaddress
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from PIL import Image

from keras_ae import contract as c
from keras_ae import errors as e
from serving.client.asynchronous import AsyncReconstructionClient
from serving.client.blocking import ReconstructionClient
from serving.client.failures import ERRORS, Attempts, TransportError
from serving.client.transports.connection import Connection
from serving.wire import services
from serving.wire.protos import GetModelStatusResponse, PredictResponse
from serving.wire.tensors import to_array, to_proto

IMAGES = np.arange(5 * 4 * 6 * 3, dtype=np.uint8).reshape(5, 4, 6, 3)


class NegativePredictions:
    """A PredictionService whose reconstruction of an image is its negative.

    Attributes:
        script: steps of the next calls: a StatusCode to fail with, outputs to return, or an event
            to wait for.
        requests, metadata: those that were received.
    """

    def __init__(self):
        self.script, self.requests, self.metadata = [], [], []

    def Predict(self, request, context):  # noqa: N802
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        step = self.script.pop(0) if self.script else None
        if isinstance(step, grpc.StatusCode):
            context.abort(step, f"scripted {step.name}")
        if isinstance(step, threading.Event):
            step.wait()
        if isinstance(step, dict):
            return make_response(**step)
        if request.model_spec.signature_name == c.RECONSTRUCT:
            images = to_array(request.inputs[c.IMAGES])
            return make_response(**{c.RECONSTRUCTIONS: 255 - images}, **scores(images))
        encoded = to_array(request.inputs[c.IMAGE_BYTES])
        images = [np.asarray(Image.open(io.BytesIO(data))) for data in encoded]
        return make_response(
            **{c.RECONSTRUCTION_PNG_BYTES: [png(255 - image) for image in images]},
            **{c.STATUS: [b""] * len(images)},
            **scores(images),
        )


class Statuses:
    """A ModelService with a script of (state, error) or StatusCode; the last one is repeated."""

    def __init__(self):
        self.script = []

    def GetModelStatus(self, request, context):  # noqa: N802
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, grpc.StatusCode):
            context.abort(step, "scripted")
        response = GetModelStatusResponse()
        version = response.model_version_status.add(version=3, state=step[0])
        version.status.error_message = step[1]
        return response


def make_response(**outputs):
    return PredictResponse(outputs={k: to_proto(v) for k, v in outputs.items()})


def scores(images):
    """Scores that identify their image: its first value."""
    first = np.array([image[0, 0, 0] for image in images], np.float32)
    return dict.fromkeys((c.MSE, c.PSNR, c.SSIM, c.PERCENTILE), first)


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


class Server:
    def __init__(self, credentials=None):
        self.predictions, self.statuses = NegativePredictions(), Statuses()
        self._server = grpc.server(ThreadPoolExecutor(8))
        services.add_servicer(services.PREDICTION, self.predictions, self._server)
        services.add_servicer(services.MODEL, self.statuses, self._server)
        if credentials is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.target = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self):
        self._server.stop(0).wait()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def client(server):
    with ReconstructionClient(server.target, timeout=20) as client:
        yield client


def test_every_status_has_an_error():
    assert set(ERRORS) == set(grpc.StatusCode)
    assert all(issubclass(kind, e.ServingError) for kind in ERRORS.values())
    kinds = {kind for kind in vars(e).values() if isinstance(kind, type)}
    leaves = {kind for kind in kinds if issubclass(kind, e.ServingError)} - {e.ServingError}
    assert leaves == set(ERRORS.values())


@pytest.mark.parametrize(
    "code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK], ids=str
)
def test_each_grpc_status_raises_its_error(server, code):
    server.predictions.script = [code]
    with (
        ReconstructionClient(server.target, retries=0) as client,
        pytest.raises(ERRORS[code], match=server.target) as caught,
    ):
        client.reconstruct(IMAGES)
    assert type(caught.value) is ERRORS[code]
    # gRPC itself writes the message of an exceeded deadline and of a cancelled call.
    if code not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        assert f"scripted {code.name}" in str(caught.value)


def test_an_unavailable_server_is_retried(server, client):
    server.predictions.script = [grpc.StatusCode.UNAVAILABLE] * 2
    result = client.reconstruct(IMAGES)
    np.testing.assert_array_equal(result.reconstructions, 255 - IMAGES)
    assert len(server.predictions.requests) == 3


def test_a_server_that_has_answered_is_retried_until_the_timeout(server, client, monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    server.predictions.script = [grpc.StatusCode.UNAVAILABLE] * 5
    with pytest.raises(e.UnavailableError):
        client.reconstruct(IMAGES)
    client.reconstruct(IMAGES)
    server.predictions.script = [grpc.StatusCode.UNAVAILABLE] * 30
    client.reconstruct(IMAGES)
    assert len(pauses) == 4 + 30
    assert max(pauses) <= 1.5


def test_retries_are_limited(server):
    server.predictions.script = [grpc.StatusCode.UNAVAILABLE] * 9
    with (
        ReconstructionClient(server.target, retries=2) as client,
        pytest.raises(e.UnavailableError, match="wait_until_ready"),
    ):
        client.reconstruct(IMAGES)
    assert len(server.predictions.requests) == 3


@pytest.mark.parametrize(
    "code",
    [c for c in grpc.StatusCode if c not in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)],
    ids=str,
)
def test_no_other_status_is_retried(server, client, code):
    server.predictions.script = [code]
    with pytest.raises(e.ServingError):
        client.reconstruct(IMAGES)
    assert len(server.predictions.requests) == 1


def test_pauses_double_vary_and_end_before_the_deadline():
    now = 0.0
    attempts = Attempts("here", timeout=10, retries=100, clock=lambda: now)
    failure = TransportError(grpc.StatusCode.UNAVAILABLE, "away")
    pauses = []
    while now < 10:
        try:
            pauses.append(attempts.pause_after(failure))
        except e.UnavailableError:
            break
        now += pauses[-1]
    assert now < 10
    assert attempts.remaining_seconds() == pytest.approx(10 - now)
    for i, pause in enumerate(pauses):
        assert 0.5 * min(0.1 * 2**i, 1) <= pause <= 1.5 * min(0.1 * 2**i, 1)
    assert len(pauses) >= 5


def test_a_server_that_does_not_respond_is_a_deadline_error(server):
    release = threading.Event()
    server.predictions.script = [release]
    try:
        with (
            ReconstructionClient(server.target, timeout=0.3) as client,
            pytest.raises(e.DeadlineError, match=r"within 0\.3 s") as caught,
        ):
            client.reconstruct(IMAGES)
        assert isinstance(caught.value, TimeoutError)
    finally:
        release.set()


def test_the_error_of_an_unreachable_server_has_its_address(free_port):
    target = f"127.0.0.1:{free_port()}"
    with (
        ReconstructionClient(target, retries=1) as client,
        pytest.raises(e.UnavailableError, match=f"{target} is not available"),
    ):
        client.status()


def test_a_batch_is_split_by_bytes_and_joined_in_order(server):
    images = np.random.default_rng(0).integers(0, 256, (23, 8, 8, 3), np.uint8)
    # The first request answers last.
    release = threading.Event()
    server.predictions.script = [release]
    threading.Timer(0.2, release.set).start()
    with ReconstructionClient(server.target, max_request_bytes=1000) as client:
        result = client.reconstruct(images)
    sizes = [len(to_array(r.inputs[c.IMAGES])) for r in server.predictions.requests]
    assert sorted(sizes) == [3, *[5] * 4]
    np.testing.assert_array_equal(result.reconstructions, 255 - images)
    np.testing.assert_array_equal(result.mse, images[:, 0, 0, 0])


def test_a_batch_is_split_by_count(server):
    with ReconstructionClient(server.target, max_request_images=2) as client:
        result = client.reconstruct([png(image) for image in IMAGES])
    sizes = [len(to_array(r.inputs[c.IMAGE_BYTES])) for r in server.predictions.requests]
    assert sorted(sizes) == [1, 2, 2]
    np.testing.assert_array_equal(np.stack(result.reconstructions), 255 - IMAGES)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("images", "limit", "name"),
    [
        ([png(image) for image in IMAGES], "MAX_REQUEST_PIXELS", c.IMAGE_BYTES),
        (IMAGES, "MAX_PIXELS", c.IMAGES),
    ],
    ids=["encoded", "arrays"],
)
def test_a_batch_is_split_by_pixels(server, monkeypatch, images, limit, name, asynchronous):
    monkeypatch.setattr(c, limit, 2 * 4 * 6 + 1)

    async def reconstruct():
        async with AsyncReconstructionClient(server.target) as client:
            return await client.reconstruct(images)

    if asynchronous:
        result = asyncio.run(reconstruct())
    else:
        with ReconstructionClient(server.target) as client:
            result = client.reconstruct(images)
    sizes = [len(to_array(r.inputs[name])) for r in server.predictions.requests]
    assert sorted(sizes) == [1, 2, 2]
    np.testing.assert_array_equal(np.stack(result.reconstructions), 255 - IMAGES)


def test_an_image_above_the_limit_is_sent_alone(server):
    with ReconstructionClient(server.target, max_request_bytes=1) as client:
        assert len(client.reconstruct(IMAGES)) == 5
    assert len(server.predictions.requests) == 5


def test_images_of_one_shape_share_a_request_and_keep_their_order(server, client, tmp_path):
    small, large = IMAGES[0], np.full((9, 7, 3), 200, np.uint8)
    path = tmp_path / "image.png"
    path.write_bytes(png(IMAGES[3]))
    result = client.reconstruct([small, large, path, IMAGES[1], png(IMAGES[4])])
    sent = [small, large, IMAGES[3], IMAGES[1], IMAGES[4]]
    for reconstruction, image in zip(result, sent):
        np.testing.assert_array_equal(reconstruction.image, 255 - image)
        assert reconstruction.mse == image[0, 0, 0]
    assert len(server.predictions.requests) == 3


def test_one_request_that_fails_fails_the_batch(server):
    server.predictions.script = [grpc.StatusCode.INTERNAL]
    with (
        ReconstructionClient(server.target, max_request_images=1) as client,
        pytest.raises(e.ServerError, match="scripted INTERNAL"),
    ):
        client.reconstruct(IMAGES)


def test_no_images_give_empty_results_without_a_request(server, client):
    assert len(client.reconstruct([])) == 0
    assert client.reconstruct(IMAGES[:0]).mse.shape == (0,)
    assert server.predictions.requests == []


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "expected 5 rows of 'reconstructions'; got only"),
        (
            {c.RECONSTRUCTIONS: IMAGES[:2]},
            r"expected 5 rows of 'reconstructions'; got the shape \[2, 4, 6, 3\]",
        ),
        ({c.RECONSTRUCTIONS: IMAGES}, "expected 5 rows of 'mse'"),
    ],
)
def test_an_invalid_response_is_an_error(server, client, outputs, message):
    server.predictions.script = [outputs]
    with pytest.raises(e.ServerError, match=message):
        client.reconstruct(IMAGES)


def test_a_response_without_a_png_is_an_error(server, client):
    outputs = {c.RECONSTRUCTION_PNG_BYTES: [b"text"], c.STATUS: [b""], **scores(IMAGES[:1])}
    server.predictions.script = [outputs]
    with pytest.raises(e.ServerError, match="not a PNG"):
        client.reconstruct(png(IMAGES[0]))


def test_another_number_of_channels_in_the_response_is_an_error(server, client):
    server.predictions.script = [{c.RECONSTRUCTIONS: IMAGES[..., :1], **scores(IMAGES)}]
    with pytest.raises(e.InvalidRequestError, match="as many channels as the model"):
        client.reconstruct(IMAGES)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.astype(np.float32), "uint8, 0..255; got float32; multiply"),
        (IMAGES.astype(np.int64), "uint8, 0..255; got int64$"),
        (IMAGES[0], r"got \[4, 6, 3\]: for one image send image\[None\]"),
        (IMAGES[..., :2], r"1 or 3 channels, last; got \[5, 4, 6, 2\]"),
        (IMAGES[:, :0], "at least one pixel"),
        ([IMAGES], r"expected an array \[H, W, C\]; got \[5, 4, 6, 3\]"),
        ([IMAGES[0], 7], "got int in it"),
        (7, "expected a uint8 array .* got int"),
    ],
)
def test_invalid_images_are_refused_before_they_are_sent(server, client, images, message):
    with pytest.raises(e.InvalidRequestError, match=message):
        client.reconstruct(images)
    assert server.predictions.requests == []


def test_invalid_inputs_of_encode_and_decode_are_refused(client):
    with pytest.raises(e.InvalidRequestError, match="decode them first"):
        client.encode(["image.png"])
    with pytest.raises(e.InvalidRequestError, match=r"float32 \[N, h, w, c\].* got float64"):
        client.decode(np.zeros((1, 2, 2, 8)))
    with pytest.raises(e.InvalidRequestError, match=r"got float32 \[2, 8\]"):
        client.decode([np.zeros((2, 8), np.float32)])


def test_a_missing_file_is_an_error(client):
    with pytest.raises(e.DataError, match=r"cannot read nowhere\.png: No such file"):
        client.reconstruct("nowhere.png")


def test_model_version_and_label_are_sent(server):
    with ReconstructionClient(server.target, "other", version=7) as client:
        client.reconstruct(IMAGES)
    with ReconstructionClient(server.target, "other", label="canary") as client:
        client.reconstruct(IMAGES)
    first, second = (request.model_spec for request in server.predictions.requests)
    assert (first.name, first.version.value, second.version_label) == ("other", 7, "canary")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": ""}, "expected a target"),
        ({"model": ""}, "name of a model"),
        ({"version": 1, "label": "a"}, "a version or a label"),
        ({"timeout": 0}, "timeout"),
        ({"target": "http://a:1", "tls": True}, "https"),
        ({"ca_certificate": "ca.pem"}, "certificates are for TLS"),
        ({"tls": True, "client_key": "key.pem"}, "a client certificate and its key"),
        ({"tls": True, "ca_certificate": "nowhere.pem"}, r"cannot read nowhere\.pem"),
        ({"target": "https://a:1", "ca_certificate": "nowhere.pem"}, "cannot use the certif"),
        ({"token": "a\nb"}, "one line"),
        ({"target": "model.example:8500", "token": "s"}, "plain text to model.example:8500"),
        ({"target": "http://10.0.0.1:8501", "token": "s"}, "plain text"),
        ({"target": "dns:///model.example:8500", "token": "s"}, "plain text"),
        ({"target": "dns:model.example:8500#@127.0.0.1", "token": "s"}, "plain text"),
        ({"target": "dns:model.example:8500//localhost", "token": "s"}, "plain text"),
        ({"target": "ipv6:[::1]:1,[2001:db8::1]:1", "token": "s"}, "plain text"),
        ({"target": "http://model.example//localhost:8501", "token": "s"}, "plain text"),
        ({"target": "http://model.example#@127.0.0.1", "token": "s"}, "without user"),
        ({"target": "http://model.example?@localhost", "token": "s"}, "without user"),
        ({"target": "http://localhost@model.example:1", "token": "s"}, "without user"),
        ({"target": "http://user:password@127.0.0.1:1"}, "without user"),
        ({"target": "http://127.0.0.1:1?"}, "without user"),
        ({"target": "http://127.0.0.1:port"}, "a REST target such as http://127.0.0.1:8501"),
        ({"target": "http://[::1"}, "a REST target such as http://127.0.0.1:8501"),
        ({"target": "http://"}, "a REST target such as http://127.0.0.1:8501"),
    ],
)
def test_contradictory_options_are_refused(options, message):
    with pytest.raises(e.ConfigurationError, match=message):
        ReconstructionClient(**{"target": "127.0.0.1:1", **options})


@pytest.mark.parametrize(
    "target",
    [
        "localhost:1",
        "127.0.0.1:1",
        "[::1]:1",
        "::1",
        "dns:///localhost:1",
        "dns:127.0.0.2:1",
        "ipv4:127.0.0.1:1",
        "ipv6:[::1]:1",
        "unix:/tmp/socket",
        "http://localhost",
        "http://127.0.0.1:1/below",
        "http://[::1]:1",
    ],
)
def test_local_targets_are_recognized(target):
    assert Connection(target, token="secret").local


def test_a_token_is_sent_to_this_machine(server):
    with ReconstructionClient(server.target, token="secret") as client:
        client.reconstruct(IMAGES)
    assert server.predictions.metadata[0]["authorization"] == "Bearer secret"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """PEM files of a key and a certificate for 127.0.0.1 that signs itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "key.pem", folder / "cert.pem"


def test_tls_with_a_token_and_a_certificate_of_the_client(certificate):
    key, cert = certificate
    pair = (key.read_bytes(), cert.read_bytes())
    credentials = grpc.ssl_server_credentials([pair], pair[1], require_client_auth=True)
    server = Server(credentials)
    try:
        files = {"ca_certificate": cert, "client_certificate": cert, "client_key": key}
        with ReconstructionClient(server.target, tls=True, token="secret", **files) as client:
            np.testing.assert_array_equal(client.reconstruct(IMAGES).reconstructions, 255 - IMAGES)
        assert server.predictions.metadata[0]["authorization"] == "Bearer secret"
    finally:
        server.stop()


def test_an_untrusted_certificate_is_refused(certificate):
    key, cert = certificate
    server = Server(grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())]))
    try:
        with (
            ReconstructionClient(server.target, tls=True, retries=0) as client,
            pytest.raises(e.UnavailableError, match=r"(?i)ssl|certificate"),
        ):
            client.reconstruct(IMAGES)
        assert server.predictions.requests == []
    finally:
        server.stop()


LOADING, AVAILABLE, END = 20, 30, 50


def test_waiting_ends_when_a_version_is_available(server, client):
    server.statuses.script = [grpc.StatusCode.NOT_FOUND, (LOADING, ""), (AVAILABLE, "")]
    client.wait_until_ready(timeout=20)
    assert server.statuses.script == [(AVAILABLE, "")]


def test_waiting_for_a_server_that_starts_later(free_port):
    port = free_port()
    target = f"127.0.0.1:{port}"

    async def wait():
        async with AsyncReconstructionClient(target) as client:
            waiting = asyncio.create_task(client.wait_until_ready(20))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            server = grpc.server(ThreadPoolExecutor(1))
            statuses = Statuses()
            statuses.script = [(AVAILABLE, "")]
            services.add_servicer(services.MODEL, statuses, server)
            server.add_insecure_port(target)
            server.start()
            try:
                await waiting
            finally:
                server.stop(0).wait()

    asyncio.run(wait())


def test_waiting_ends_when_no_version_can_be_loaded(server, client):
    server.statuses.script = [(LOADING, ""), (END, "no variables")]
    with pytest.raises(e.ServerError, match="version 3 of keras_ae: no variables"):
        client.wait_until_ready(timeout=20)


def test_the_error_of_waiting_too_long_has_the_last_response(server, client, free_port):
    server.statuses.script = [(LOADING, "")]
    with pytest.raises(e.DeadlineError, match=r"after 0\.2 s: version 3 is LOADING"):
        client.wait_until_ready(timeout=0.2)
    with (
        ReconstructionClient(f"127.0.0.1:{free_port()}") as client,
        pytest.raises(e.DeadlineError, match="not ready after"),
    ):
        client.wait_until_ready(timeout=0.2)


def test_waiting_ends_for_errors_that_waiting_does_not_fix(server, client):
    server.statuses.script = [grpc.StatusCode.PERMISSION_DENIED]
    with pytest.raises(e.AccessError):
        client.wait_until_ready(timeout=20)


def test_asyncio_splits_retries_and_fails_like_the_blocking_client(server):
    async def reconstruct(**options):
        async with AsyncReconstructionClient(server.target, **options) as client:
            return await client.reconstruct(IMAGES)

    server.predictions.script = [grpc.StatusCode.UNAVAILABLE] * 2
    result = asyncio.run(reconstruct(max_request_images=2))
    np.testing.assert_array_equal(result.reconstructions, 255 - IMAGES)
    assert len(server.predictions.requests) == 5
    release = threading.Event()
    server.predictions.script = [release]
    try:
        with pytest.raises(e.DeadlineError):
            asyncio.run(reconstruct(timeout=0.3))
    finally:
        release.set()
    server.predictions.script = [grpc.StatusCode.INTERNAL] * 3
    with pytest.raises(e.ServerError, match="scripted INTERNAL"):
        asyncio.run(reconstruct(max_request_images=2))
