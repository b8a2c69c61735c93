import asyncio
import base64
import contextlib
import gc
import gzip
import io
import json
import socket
import threading
import zlib
from types import SimpleNamespace

import grpc
import httpx
import numpy as np
import pytest

from serving.server.errors import RequestError
from serving.server.frontends import http_limits, json_tensors
from serving.server.frontends.metrics import UNKNOWN_MODEL, Metrics
from serving.server.frontends.rest import create_app
from tests.serving.server.conftest import MAX_BODY, METRICS_PATH
from tests.serving.servers import wait_until

PREDICT = "/v1/models/keras_ae:predict"


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def assert_refused(answer, status, message):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = json.loads(answer.content)
    assert body.keys() == {"error"}
    assert message in body["error"]


def assert_still_serving(server, photograph):
    body = {"signature_name": "encode", "inputs": [photograph.tolist()]}
    answer = server.predict(body)
    assert answer.status_code == 200, answer.text
    assert np.array(answer.json()["outputs"]["latents"]).shape == (1, 15, 20, 8)


# Answers


def test_an_encoded_image_is_reconstructed_and_scored(rest_server, in_process, photograph, png):
    from PIL import Image

    answer = rest_server.predict({"instances": [b64(png(photograph))]})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    [row] = answer.json()["predictions"]
    scores = {"mse", "psnr", "ssim", "percentile", "val_images"}
    assert row.keys() == {"reconstruction_png_bytes", "status"} | scores
    assert (row["status"], row["val_images"]) == ("", 200)
    expected = in_process.signatures["reconstruct"](images=photograph[None])
    for name in ("mse", "psnr", "ssim", "percentile"):
        assert row[name] == pytest.approx(float(expected[name][0]), rel=1e-4)
    data = base64.b64decode(row["reconstruction_png_bytes"]["b64"])
    pixels = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    assert np.abs(pixels - expected["reconstructions"][0].numpy()).max() <= 1


def test_tensors_are_sent_and_returned_in_columns(rest_server, in_process, photograph):
    images = np.stack([photograph, photograph[::-1]])
    answer = rest_server.predict({"signature_name": "reconstruct", "inputs": images.tolist()})
    outputs = answer.json()["outputs"]
    expected = in_process.signatures["reconstruct"](images=images)
    assert outputs.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(outputs[name], values, rtol=1e-4, atol=1)


def test_a_single_output_is_a_plain_list(real_server):
    url = f"{real_server.running.rest}/v1/models/m/versions/1:predict"
    for body, key in (
        ({"instances": [3]}, "predictions"),
        ({"instances": [{"steps": 3}]}, "predictions"),
        ({"inputs": [3]}, "outputs"),
        ({"inputs": {"steps": [3]}}, "outputs"),
    ):
        answer = httpx.post(url, json={"signature_name": "count", **body}, timeout=60)
        assert answer.json() == {key: [4]}


def test_latents_are_encoded_and_decoded(rest_server, in_process, photograph):
    expected = in_process.signatures["encode"](images=photograph[None])
    body = {"signature_name": "encode", "instances": [photograph.tolist()]}
    [row] = rest_server.predict(body).json()["predictions"]
    np.testing.assert_allclose(row["latents"], expected["latents"][0], rtol=1e-3, atol=1e-3)
    assert row["steps"] == expected["steps"][0].numpy().tolist()
    assert row["model_id"] == expected["model_id"][0].numpy().decode()
    body = {"signature_name": "decode", "instances": [row["latents"]]}
    [decoded] = rest_server.predict(body).json()["predictions"]
    assert decoded["model_id"] == row["model_id"]
    images = in_process.signatures["decode"](latents=expected["latents"])["images"]
    np.testing.assert_allclose([decoded["images"]], images, atol=1)


def test_a_broken_image_gets_a_status_and_nan_and_does_not_fail_the_others(
    rest_server, photograph, png
):
    answer = rest_server.predict({"instances": [b64(b"no image"), b64(png(photograph))]})
    assert answer.status_code == 200
    assert b'"mse":NaN' in answer.content
    bad, good = json.loads(answer.content)["predictions"]
    assert bad["status"] == "not a PNG, JPEG, BMP, GIF or WebP image"
    assert bad["reconstruction_png_bytes"] == {"b64": ""}
    assert good["status"] == ""
    assert good["psnr"] > 15


@pytest.mark.parametrize(
    "path",
    [
        PREDICT,
        "/v1/models/keras_ae/versions/1:predict",
        "/v1/models/keras_ae/versions/2:predict",
        "/v1/models/keras_ae/labels/stable:predict",
        "/V1/Models/keras_ae:Predict",
        "/v1/models/keras%5Fae:predict",
        "/v1/models/odd%2Fb%20%26%20%3Ci%3Ec:predict",
    ],
)
def test_models_versions_and_labels_are_called_by_path(rest_server, photograph, png, path):
    answer = rest_server.predict({"instances": [b64(png(photograph))]}, path)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0]["status"] == ""


# About the models


def test_the_status_lists_versions(rest_server):
    found = rest_server.client.get("/v1/models/keras_ae").json()
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    versions = sorted(found.pop("model_version_status"), key=lambda version: version["version"])
    assert versions == [{"version": "1", **available}, {"version": "2", **available}]
    assert found == {}
    labelled = rest_server.client.get("/v1/models/keras_ae/labels/unknown").json()
    assert len(labelled["model_version_status"]) == 2
    found = rest_server.client.get("/v1/models/keras_ae/versions/1").json()
    assert found == {"model_version_status": [{"version": "1", **available}]}


@pytest.mark.parametrize("path", ["", "/versions/1", "/labels/stable"])
def test_metadata_has_every_signature(rest_server, path):
    found = rest_server.client.get(f"/v1/models/keras_ae{path}/metadata").json()
    spec = found["model_spec"]
    assert spec["name"] == "keras_ae"
    assert spec["version"] == ("1" if path else "2")
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert signatures.keys() >= {"serving_default", "reconstruct", "encode", "decode", "score"}
    images = signatures["encode"]["inputs"]["images"]
    assert images["dtype"] == "DT_UINT8"
    assert [dim["size"] for dim in images["tensor_shape"]["dim"]] == ["-1", "-1", "-1", "3"]
    assert signatures["encode"]["method_name"] == "tensorflow/serving/predict"


# Refusals


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models/nobody", 404, "Could not find any versions of model nobody"),
        ("/v1/models/keras_ae/versions/9", 404, "Could not find version 9 of model keras_ae"),
        ("/v1/models/nobody/metadata", 404, "Servable not found for request: Latest(nobody)"),
        ("/v1/models/keras_ae/versions/9/metadata", 404, "Specific(keras_ae, 9)"),
        ("/v1/models/keras_ae/labels/L/metadata", 400, "Unrecognized servable version label: L"),
        ("/v1/models/..%2F..%2Fetc", 404, "Could not find any versions of model ../../etc"),
        (f"/v1/models/keras_ae/versions/{'9' * 19}", 400, "to numeric"),
        (f"/v1/models/keras_ae/versions/{'9' * 5000}", 400, "to numeric"),
        ("/v1/models/%ff", 400, "not UTF-8"),
        ("/v1/models", 400, "Missing model name in request."),
        ("/v1/models/versions/1", 400, "Missing model name in request."),
        ("/v1/models/keras_ae?x=1", 404, "Could not find any versions of model keras_ae?x=1"),
        ("/v1/models/keras_ae/metadata?x=1", 400, "Malformed request: GET /v1/models/keras_ae/m"),
        ("/v1/", 400, "Malformed request: GET /v1/"),
        (PREDICT, 400, f"Malformed request: GET {PREDICT}"),
        ("/v1/models/keras_ae/versions/x", 400, "Malformed request: GET /v1/models/keras_ae/vers"),
        ("/v1/models/%2F..%2F/x", 400, "Malformed request: GET /v1/models/%2F..%2F/x"),
        (f"/v1/{'x' * 5000}", 400, "Malformed request: GET /v1/xxx"),
        ("/v1/a%0Ab", 400, "Malformed request: GET /v1/a%0Ab"),
        ("/v1", 404, "Not Found"),
        ("/v2/models/keras_ae", 404, "Not Found"),
        ("/favicon.ico", 404, "Not Found"),
        ("/monitoring/prometheus/metrics", 404, "Not Found"),
    ],
)
def test_an_invalid_get_request_gets_an_error(rest_server, path, status, message):
    assert_refused(rest_server.client.get(path), status, message)


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models/nobody:predict", 404, "Servable not found for request: Latest(nobody)"),
        ("/v1/models/keras_ae/versions/9:predict", 404, "Specific(keras_ae, 9)"),
        ("/v1/models/keras_ae/labels/L:predict", 400, "Unrecognized servable version label: L"),
        ("/v1/models/keras_ae:reload", 400, "Malformed request: POST /v1/models/keras_ae:reload"),
        ("/v1/models/keras_ae", 400, "Malformed request: POST /v1/models/keras_ae"),
        (f"{PREDICT}?x=1", 400, f"Malformed request: POST {PREDICT}?x=1"),
        ("/", 404, "Not Found"),
    ],
)
def test_an_invalid_post_request_gets_an_error(rest_server, path, status, message):
    assert_refused(rest_server.predict({"instances": [b64(b"")]}, path), status, message)


@pytest.mark.parametrize(
    ("method", "body", "message"),
    [
        ("classify", {"examples": [{}]}, "Expected one or two output Tensors, found 7"),
        ("regress", {"examples": [{}]}, "Expected one output Tensor."),
        (
            "regress",
            {"signature_name": "S", "examples": [{}]},
            "No signature was found with the name: S",
        ),
        ("classify", {"instances": [1]}, "key 'examples' is expected and was not found"),
        ("classify", {"examples": {}}, "Expecting 'examples' value to be an list/array"),
        ("classify", {"examples": []}, "'examples' value is an empty array"),
    ],
)
def test_signatures_of_another_kind_are_refused(rest_server, method, body, message):
    answer = rest_server.predict(body, f"/v1/models/keras_ae:{method}")
    assert_refused(answer, 400, message)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_malformed(rest_server, method):
    answer = rest_server.client.request(method, PREDICT)
    assert_refused(answer, 400, f"Malformed request: {method} {PREDICT}")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"nonsense", "JSON Parse error"),
        (b"[" * 50_000, "JSON Parse error"),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        (b'{"inputs": [], "instances": []}', "only one of 'inputs' or 'instances' keys"),
        (b'{"signature_name": 1, "instances": [1]}', "'signature_name' key must be a string"),
        (
            b'{"signature_name": "S", "instances": [1]}',
            'Serving signature name: "S" not found in signature def',
        ),
        (b'{"instances": [1]}', "is not of expected type: string"),
        (b'{"inputs": {"pictures": ["a"]}}', "Missing named input: image_bytes in 'inputs'"),
        (b'{"signature_name": "encode", "instances": [[[[1, 2, 3]], [[1, 2]]]]}', "size: 2 at"),
        (b'{"signature_name": "encode", "instances": [[[[1, 2, 300]]]]}', "300 Type: Number"),
        (b'{"signature_name": "encode", "instances": [[[[1, 2, 0.5]]]]}', "expected type: uint8"),
        (b'{"signature_name": "encode", "instances": [[[[1, 2]]]]}', "images"),
        (b'{"signature_name": "encode", "instances": [1]}', "images"),
        (b'{"signature_name": "encode", "inputs": []}', "images"),
        (b'{"signature_name": "encode", "inputs": [[]]}', "images"),
    ],
)
def test_the_error_of_an_invalid_body_names_the_invalid_part(
    rest_server, photograph, body, message
):
    assert_refused(rest_server.client.post(PREDICT, content=body), 400, message)
    assert_still_serving(rest_server, photograph)


# Bodies


def test_uploads_get_a_hint_how_to_send_an_image(rest_server, photograph, png):
    post = rest_server.client.post
    answers = {
        "multipart/form-data": post(PREDICT, files={"file": ("a.png", png(photograph))}),
        "image/png": post(PREDICT, content=png(photograph), headers={"content-type": "image/png"}),
    }
    for kind, answer in answers.items():
        assert_refused(answer, 400, f"expected a body of JSON, got {kind}; send")
        assert '{"instances": [{"image_bytes": {"b64": ' in json.loads(answer.content)["error"]


def test_compressed_bodies_are_read(rest_server, photograph, png):
    body = gzip.compress(json.dumps({"instances": [b64(png(photograph))]}).encode())
    answer = rest_server.client.post(PREDICT, content=body, headers={"content-encoding": "gzip"})
    assert answer.json()["predictions"][0]["status"] == ""


@pytest.mark.parametrize(
    ("body", "encoding", "message"),
    [
        (zlib.compress(b"{}", wbits=31)[:-9], "gzip", "truncated"),
        (gzip.compress(b"{}", mtime=0) * 2, "gzip", "data after its end"),
        (b"{}", "gzip", "the body is not gzip"),
        (gzip.compress(b"0" * 9000, mtime=0)[:-4] + bytes(4), "gzip", "truncated"),
        (b"{}", "br", "expected gzip or none, got br"),
        (gzip.compress(b"0" * 200 * 2**20, 1), "gzip", f"more than {MAX_BODY:,} bytes"),
    ],
)
def test_invalid_compressed_bodies_are_refused(rest_server, photograph, body, encoding, message):
    headers = {"content-encoding": encoding}
    assert_refused(rest_server.client.post(PREDICT, content=body, headers=headers), 400, message)
    assert_still_serving(rest_server, photograph)


def test_a_body_at_the_limit_is_read_and_one_byte_more_is_refused(rest_server, photograph):
    body = json.dumps({"instances": [b64(b"no image")]}).encode()
    padded = body.ljust(MAX_BODY)
    assert rest_server.client.post(PREDICT, content=padded).status_code == 200
    message = f"the body has more than {MAX_BODY:,} bytes"
    assert_refused(rest_server.client.post(PREDICT, content=padded + b" "), 400, message)
    # Chunked, without a Content-Length.
    chunks = (b" " * 2**20 for _ in range(9))
    assert_refused(rest_server.client.post(PREDICT, content=chunks), 400, message)
    assert_still_serving(rest_server, photograph)


def connected(server):
    return socket.create_connection(("127.0.0.1", server.client.base_url.port), timeout=60)


def test_a_very_long_model_name_is_refused(rest_server, photograph):
    answer = b""
    # The server may close the connection before it has read the whole request.
    with connected(rest_server) as connection, contextlib.suppress(ConnectionError):
        name = b"m" * 2**20
        connection.sendall(b"GET /v1/models/" + name + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = connection.recv(12)
    assert answer in (b"", b"HTTP/1.1 400", b"HTTP/1.1 404")
    assert_refused(rest_server.client.get(f"/v1/models/{'m' * 30_000}"), 404, "of model mmm")
    assert_still_serving(rest_server, photograph)


def test_closed_connections_do_not_affect_other_requests(rest_server, photograph):
    for sent in (b"POST ", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"):
        with connected(rest_server) as connection:
            connection.sendall(sent)
    assert_still_serving(rest_server, photograph)


def test_a_slow_response_is_status_504(start_server, tiny):
    """Also, a server without --monitoring_config_file has no metrics page."""
    named = ("--model_name=m", f"--model_base_path={tiny}")
    server = start_server(*named, "--rest_api_timeout_in_ms=1")
    server.wait_for({3: "AVAILABLE"})
    with httpx.Client(base_url=server.running.rest, timeout=60) as client:
        body = {"signature_name": "count", "inputs": [100_000]}
        assert_refused(
            client.post("/v1/models/m:predict", json=body), 504, "no response within 0.001 s"
        )
        assert client.get("/v1/models/m").status_code == 200
        assert_refused(client.get(METRICS_PATH), 404, "Not Found")


class Body(bytes):
    """A body that the garbage collector knows."""


def test_the_body_of_a_refused_request_is_freed_at_once(start_server, tiny, monkeypatch):
    server = start_server("--model_name=m", f"--model_base_path={tiny}")
    server.wait_for({3: "AVAILABLE"})
    monkeypatch.setattr(http_limits, "decode", lambda body, *_: Body(body))
    gc.collect()
    gc.disable()
    try:
        for fields in ({}, {"signature_name": "S"}, {"signature_name": "positive"}):
            body = {"inputs": [-1], **fields}
            answer = httpx.post(f"{server.running.rest}/v1/models/m:predict", json=body)
            assert answer.status_code == 400
        wait_until(lambda: not any(type(item) is Body for item in gc.get_objects()))
    finally:
        gc.enable()


# Metrics


def counted(server, name, **labels):
    """The value of a series of the metrics page; 0 if there is no such series."""
    for line in server.client.get(METRICS_PATH).text.splitlines():
        series, _, value = line.rpartition(" ")
        if series.startswith(name) and all(f'{k}="{v}"' in series for k, v in labels.items()):
            return float(value)
    return 0


def test_requests_are_in_the_metrics(rest_server):
    count, latency = (
        ":tensorflow:serving:request_count",
        ":tensorflow:serving:request_latency_count",
    )
    good = {"model_name": "keras_ae", "status": "OK"}
    bad = {"model_name": "keras_ae", "status": "INVALID_ARGUMENT"}
    rest = {"model_name": "keras_ae", "API": "predict", "entrypoint": "REST"}
    before = [counted(rest_server, count, **good), counted(rest_server, count, **bad)]
    took = counted(rest_server, latency, **rest)
    rest_server.predict({"instances": [b64(b"")]})
    rest_server.predict({})
    assert [counted(rest_server, count, **good), counted(rest_server, count, **bad)] == [
        before[0] + 1,
        before[1] + 1,
    ]
    assert counted(rest_server, latency, **rest) == took + 1
    page = rest_server.client.get(METRICS_PATH)
    assert page.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_unknown_models_are_counted_together(rest_server):
    rest_server.predict({"instances": [b64(b"")]}, "/v1/models/made%20up:predict")
    assert "made up" not in rest_server.client.get(METRICS_PATH).text
    unknown = {"model_name": "(unknown)", "status": "NOT_FOUND"}
    assert counted(rest_server, ":tensorflow:serving:request_count", **unknown) >= 1


# Other web pages


BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://example.com"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "http://example.com", "host": "example.com"},
        {"user-agent": BROWSER, "host": "example.com:8501"},
    ],
)
def test_pages_of_other_origins_are_refused(rest_server, headers):
    answer = rest_server.predict({"instances": [b64(b"")]}, headers=headers)
    assert answer.status_code == 403, answer.text
    assert "page" in answer.json()["error"] or "localhost" in answer.json()["error"]


def test_dns_rebinding_is_refused(rest_server):
    # A page that is not secure sends no Sec-Fetch-Site, and no Origin to its own.
    headers = {"host": "example.com", "user-agent": BROWSER}
    for path in ("/", "/v1/models/keras_ae", "/v1/models/keras_ae/metadata", METRICS_PATH):
        assert rest_server.client.get(path, headers=headers).status_code == 403


def test_the_servers_own_page_and_programs_are_answered(rest_server):
    port = rest_server.client.base_url.port
    body = {"instances": [b64(b"")]}
    for name in ("127.0.0.1", "localhost", "[::1]"):
        host = f"{name}:{port}"
        own = {"origin": f"http://{host}", "host": host, "user-agent": BROWSER}
        assert rest_server.predict(body, headers=own).status_code == 200
        assert rest_server.client.get("/", headers=own).status_code == 200
    assert rest_server.predict(body, headers={"host": "models.example"}).status_code == 200


def test_no_response_allows_other_origins(rest_server):
    for answer in (
        rest_server.client.get("/", headers={"sec-fetch-site": "cross-site"}),
        rest_server.client.get("/v1/models/keras_ae", headers={"origin": "https://example.com"}),
        rest_server.predict({"instances": [b64(b"")]}),
    ):
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"


# Statuses that the test models do not cause


class Refusing:
    """A manager whose methods all raise the same error."""

    def __init__(self, error):
        self.error = error

    def status(self, request):
        raise self.error

    def models(self):
        return []

    def signatures(self, spec):
        raise self.error


def client_of(manager, timeout_seconds=1, max_body_bytes=1):
    flags = SimpleNamespace(
        metrics_path=METRICS_PATH, rest_timeout=timeout_seconds, max_message_bytes=max_body_bytes
    )
    app = create_app(manager, Metrics(manager.models), flags)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


def answer_of(manager):
    async def get():
        async with client_of(manager) as client:
            return await client.get("/v1/models/m")

    return asyncio.run(get())


STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "DEADLINE_EXCEEDED": 504,
    "UNAVAILABLE": 503,
    "UNIMPLEMENTED": 501,
    "PERMISSION_DENIED": 403,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "CANCELLED": 499,
}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.name != "OK"])
def test_every_code_has_its_status(code):
    answer = answer_of(Refusing(RequestError(code, 'a "reason" \ud800')))
    assert_refused(answer, STATUSES.get(code.name, 500), 'a "reason" ?')


def test_an_internal_error_is_status_500_in_json():
    assert_refused(
        answer_of(Refusing(ZeroDivisionError("secret"))), 500, "ZeroDivisionError; see its log"
    )


def test_a_bug_is_counted_as_internal_which_the_documented_alert_sees():
    async def post():
        async with client_of(manager, 60, MAX_BODY) as client:
            assert (await client.post(PREDICT, content=b'{"inputs": ["a"]}')).status_code == 500
            return await client.get(METRICS_PATH)

    manager = Refusing(ZeroDivisionError("secret"))
    page = asyncio.run(post()).text
    assert f'request_count{{model_name="{UNKNOWN_MODEL}",status="INTERNAL"}} 1.0' in page


NOT_FOUND = RequestError(grpc.StatusCode.NOT_FOUND, "no such model")


def test_a_small_body_of_many_values_is_refused(monkeypatch):
    monkeypatch.setattr(http_limits, "MAX_VALUES", 1_000_000)
    body = gzip.compress(b'{"inputs": [' + b"0," * 2_000_000 + b"0]}")

    async def post():
        async with client_of(Refusing(NOT_FOUND), 60, MAX_BODY) as client:
            return await client.post(PREDICT, content=body, headers={"content-encoding": "gzip"})

    assert_refused(asyncio.run(post()), 400, "more than 1,000,000 values")


def test_one_huge_body_is_read_at_a_time_and_small_ones_meanwhile(monkeypatch):
    huge = b'{"inputs": "%s"}' % (b"A" * 2_000_000)
    lock, release = threading.Lock(), threading.Event()
    running, max_running = 0, 0

    def parse(body, read=json_tensors.parse):
        nonlocal running, max_running
        if len(body) == len(huge):
            with lock:
                running += 1
                max_running = max(max_running, running)
            assert release.wait(60)
            with lock:
                running -= 1
        return read(body)

    async def post():
        async with client_of(Refusing(NOT_FOUND), 60, MAX_BODY) as client:
            tasks = [asyncio.create_task(client.post(PREDICT, content=huge)) for _ in range(4)]
            async with asyncio.timeout(60):
                while not running:
                    await asyncio.sleep(0.01)
            small = await client.post(PREDICT, content=b'{"inputs": ["a"]}')
            assert not any(task.done() for task in tasks)
            release.set()
            return [small, *await asyncio.gather(*tasks)]

    monkeypatch.setattr(json_tensors, "parse", parse)
    for answer in asyncio.run(post()):
        assert_refused(answer, 404, "no such model")
    assert max_running == 1
