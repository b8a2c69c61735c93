"""The server as a process: flags, signals, sockets and certificates."""

import contextlib
import datetime
import errno
import ipaddress
import logging
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest

from keras_ae.errors import ConfigurationError
from serving.client.blocking import ReconstructionClient
from serving.server import app, ports
from serving.server.frontends import http_server, rpc
from tests.listening import is_loopback, listening_addresses
from tests.serving.servers import PIXELS, Client, wait_until


@pytest.fixture(scope="module")
def certificates():
    """PEM of a key and of its self-signed certificate for 127.0.0.1 and localhost."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    not_before = datetime.datetime(2020, 1, 1)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + datetime.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(pem)


def ssl_config(folder, key, certificate, rest=""):
    lines = [f"server_key: {key.decode()!r}", f"server_cert: {certificate.decode()!r}", rest]
    (folder / "ssl").write_text("\n".join(lines))
    return f"--ssl_config_file={folder}/ssl"


def test_a_process_serves_all_addresses_logs_and_drains(serve, publish, tmp_path):
    publish(1)
    server = serve(publish.base, "--max_num_load_retries=0", f"--grpc_socket_path={tmp_path}/s")
    found = listening_addresses(server.process.pid)
    assert len({port for _, port in found}) == 2
    # Without a host it is reached from this machine only.
    assert {address for address, _ in found if not is_loopback(address)} == set()
    clients = [
        Client(grpc.insecure_channel(target)) for target in (server.grpc, f"unix:{tmp_path}/s")
    ]
    for client in clients:
        answer = client.predict({"images": PIXELS}, name="keras_ae")
        np.testing.assert_array_equal(answer.reconstructions, PIXELS + 1)
    body = {"signature_name": "reconstruct", "instances": PIXELS.tolist()}
    answer = httpx.post(f"{server.rest}/v1/models/keras_ae:predict", json=body)
    [row] = answer.json()["predictions"]
    assert row["reconstructions"] == (PIXELS[0] + 1).tolist()

    (publish.base / "2").mkdir()
    server.wait_for("version 2 failed to load")
    publish(3)
    server.wait_for("version 1 unloaded")

    steps = np.array([300_000], np.int32)
    request = clients[0].request({"steps": steps}, "keras_ae", "count")
    slow = clients[0].prediction.Predict.future(request, timeout=60)
    clients[1].predict({"images": PIXELS}, name="keras_ae")
    server.process.terminate()
    server.wait_for("stopping")
    [total] = slow.result().outputs["total"].int_val
    assert total == 300_003
    assert server.process.wait(60) == 0
    assert not (tmp_path / "s").exists()
    for client in clients:
        client.channel.close()
    lines = [line.split(" ", 1)[1] for line in server.log.splitlines()]
    expected = (
        "TensorFlow computes on: CPU",
        "keras_ae: version 1 loaded in ",
        f"gRPC at {server.grpc}, no TLS",
        f"gRPC at unix:{tmp_path}/s",
        f"REST at {server.rest}",
        "keras_ae: version 2 failed to load: cannot read ",
        "keras_ae: version 3 loaded in ",
        "keras_ae: version 1 unloaded",
        "stopping: requests in flight have 25 s",
        "stopped",
    )
    assert len(lines) == len(expected), lines
    assert all(line.startswith(text) for line, text in zip(lines, expected)), lines


def test_a_process_without_a_version_keeps_its_ports_closed(serve, publish):
    server = serve(publish.base, ready=False)
    server.wait_for(f"keras_ae: no version in {publish.base} yet; the ports open when")
    assert listening_addresses(server.process.pid) == set()
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_a_process_whose_model_cannot_be_loaded_exits(serve, publish):
    (publish.base / "7").mkdir()
    server = serve(publish.base, "--max_num_load_retries=0", ready=False)
    assert server.process.wait(60) == 1
    last_line = server.log.splitlines()[-1]
    assert "keras_ae has no version that can be loaded: cannot read" in last_line


def test_a_restart_under_load_fails_no_request_of_the_client(serve, publish):
    publish(1)
    server = serve(publish.base)
    targets, stop = 2 * [server.grpc, server.rest], threading.Event()
    answered = [0] * len(targets)

    def load(i: int) -> None:
        with ReconstructionClient(targets[i], timeout=60) as client:
            while not stop.is_set():
                client.predict("reconstruct", {"images": PIXELS})
                answered[i] += 1

    with ThreadPoolExecutor() as pool:
        loads = list(map(pool.submit, [load] * len(targets), range(len(targets))))
        try:
            wait_until(lambda: min(answered) > 20)
            assert server.stop() == 0
            server.start()
            server.wait_for("REST at")
            wanted = [count + 20 for count in answered]
            wait_until(
                lambda: all(map(int.__ge__, answered, wanted)) or any(map(Future.done, loads))
            )
        finally:
            stop.set()
        assert [done.exception() for done in loads] == [None] * len(targets)


def test_a_message_of_the_log_is_one_line():
    name = "m\n12:00:00 keras_ae: version 9 loaded\r\x1b[2J é"
    record = logging.makeLogRecord({"msg": "%s: unloaded", "args": (name,)})
    assert app.escape(record)
    assert record.getMessage() == r"m\n12:00:00 keras_ae: version 9 loaded\r\x1b[2J é: unloaded"


def test_a_connection_without_a_whole_header_is_closed(start_server, tiny, monkeypatch):
    monkeypatch.setattr(http_server, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(rpc, "HEADER_SECONDS", 0.3)
    client = start_server("--model_name=m", f"--model_base_path={tiny}")
    server = client.running.server
    request = b"GET /v1/models/m HTTP/1.1\r\nHost: x\r\n\r\n"
    with contextlib.ExitStack() as opened:

        def send(port, data):
            connection = socket.create_connection(("127.0.0.1", port), timeout=60)
            opened.enter_context(connection).sendall(data)
            return connection

        silent = [send(server.rest_port, b""), send(server.grpc_port, b"")]
        half = send(server.rest_port, b"GET /v1/mod")
        again = send(server.rest_port, request)
        with again.makefile("rb") as answer:
            assert any(b"AVAILABLE" in line for line in answer)
        again.sendall(request[:9])
        for connection in (*silent, half, again):
            while connection.recv(9999):
                pass
    assert client.predict({"images": PIXELS}).version == 3


def test_the_number_of_connections_is_limited(start_server, tiny, monkeypatch):
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(rpc, "MAX_CONNECTIONS", 3)
    client = start_server("--model_name=m", f"--model_base_path={tiny}")
    url = f"{client.running.rest}/v1/models/m"
    assert httpx.get(url).status_code == 200
    ports_in_use = [client.running.server.rest_port] * 3 + [client.running.server.grpc_port] * 3
    with contextlib.ExitStack() as opened:
        for port in ports_in_use:
            opened.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert httpx.get(url).status_code == 503
        with (
            grpc.insecure_channel(client.running.grpc) as channel,
            pytest.raises(grpc.RpcError, match="UNAVAILABLE"),
        ):
            Client(channel).predict({"images": PIXELS})
    wait_until(lambda: httpx.get(url).status_code == 200)
    assert client.predict({"images": PIXELS}).version == 3


def test_a_message_of_uvicorn_is_logged_once_a_minute_with_a_count():
    seconds = iter((100, 101, 102, 103, 161))
    rate_limit, logged = http_server.RateLimit(lambda: next(seconds)), []
    for text in ("over the limit", "over the limit", "invalid", "over the limit", "over the limit"):
        record = logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, text, (), None)
        if rate_limit.filter(record):
            logged.append(record.getMessage())
    more = "over the limit (2 more since the last line)"
    assert logged == ["over the limit", "invalid", more]


SHORT_GRACE = """
import runpy
from serving.server import app
app.GRACE_SECONDS = 1
runpy.run_module("serving.server", run_name="__main__")
"""


def test_the_process_exits_after_the_grace_period_with_busy_threads(publish, free_port):
    publish(1)
    port = free_port()
    flags = (f"--port={port}", "--model_name=m", f"--model_base_path={publish.base}")
    with (
        subprocess.Popen([sys.executable, "-c", SHORT_GRACE, *flags]) as process,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        try:
            client = Client(channel)
            client.wait_for({1: "AVAILABLE"})
            steps = np.array([2**31 - 1], np.int32)
            request = client.request({"steps": steps}, signature="count")
            endless = client.prediction.Predict.future(request, timeout=60)
            client.predict({"images": PIXELS})
            process.terminate()
            assert process.wait(30) == 0
            assert endless.exception(60)
        finally:
            process.kill()


def test_tls(start_server, tiny, tmp_path, certificates):
    from serving.server.models import config

    ssl_config(tmp_path, *certificates)
    ssl = config.read(tmp_path / "ssl", config.SSLConfig)
    plain = start_server("--model_name=m", f"--model_base_path={tiny}", ssl=ssl)
    target = plain.running.grpc
    with pytest.raises(grpc.RpcError):
        plain.predict({"images": PIXELS})
    authority = grpc.ssl_channel_credentials(certificates[1])
    with grpc.secure_channel(target, authority) as channel:
        secure = Client(channel)
        secure.wait_for({3: "AVAILABLE"})
        assert secure.predict({"images": PIXELS}).version == 3


def test_tls_with_certificates_of_clients(start_server, tiny, tmp_path, certificates):
    from serving.server.models import config

    key, certificate = certificates
    rest = f"client_verify: true custom_ca: {certificate.decode()!r}"
    ssl_config(tmp_path, key, certificate, rest)
    ssl = config.read(tmp_path / "ssl", config.SSLConfig)
    target = start_server("--model_name=m", f"--model_base_path={tiny}", ssl=ssl).running.grpc
    no_certificate = grpc.ssl_channel_credentials(certificate)
    with grpc.secure_channel(target, no_certificate) as channel, pytest.raises(grpc.RpcError):
        Client(channel).predict({"images": PIXELS})
    client_certificate = grpc.ssl_channel_credentials(certificate, key, certificate)
    with grpc.secure_channel(target, client_certificate) as channel:
        client = Client(channel)
        client.wait_for({3: "AVAILABLE"})
        assert client.predict({"images": PIXELS}).version == 3


def run_server(*argv):
    command = [sys.executable, "-m", "serving.server", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_an_unknown_flag_exits_with_status_2():
    done = run_server("--model_base_path=/m", "--model_nam=x")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "serving.server: unrecognized arguments: --model_nam=x; --help lists the flags"
    ]


def test_a_port_in_use_is_an_error(start_server, tiny):
    client = start_server("--model_name=m", f"--model_base_path={tiny}")
    port = client.running.grpc.rsplit(":", 1)[1]
    done = run_server(f"--model_base_path={tiny}", f"--port={port}", "--rest_api_port=0")
    assert done.returncode == 1
    # It says so before it loads the model.
    last_line = done.stderr.splitlines()[-1]
    assert f"cannot listen on 127.0.0.1:{port}: another process uses the port" in last_line
    assert "loaded" not in done.stderr
    assert "Traceback" not in done.stderr
    port = int(client.running.rest.rsplit(":", 1)[1])
    with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}: another process uses the"):
        start_server(f"--model_base_path={tiny}", rest_port=port)


def test_a_port_that_is_not_allowed_is_an_error(start_server, tiny, monkeypatch):
    def not_allowed(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(ports.socket.socket, "bind", not_allowed)
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:0: the port is not allowed"):
        start_server(f"--model_base_path={tiny}")


def test_an_invalid_certificate_is_an_error(start_server, tiny, tmp_path):
    flag = ssl_config(tmp_path, b"no key", b"no certificate")
    with pytest.raises(ConfigurationError, match="key or a certificate of --ssl_config_file"):
        start_server(f"--model_base_path={tiny}", flag)
