"""The server as a process: flags, signals, sockets and certificates."""

import datetime
import ipaddress
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest

from keras_ae.errors import ConfigurationError
from serving.client.blocking import ReconstructionClient
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
    [total] = np.frombuffer(slow.result().outputs["total"].tensor_content, np.int32)
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
    answered, stop = [], threading.Event()

    def load(target: str) -> None:
        with ReconstructionClient(target, timeout=60) as client:
            while not stop.is_set():
                client.predict("reconstruct", {"images": PIXELS})
                answered.append(time.monotonic())

    with ThreadPoolExecutor() as pool:
        loads = [pool.submit(load, target) for target in 2 * (server.grpc, server.rest)]
        try:
            wait_until(lambda: len(answered) > 100)
            assert server.stop() == 0
            server.start()
            server.wait_for("REST at")
            started = time.monotonic()
            wait_until(lambda: sum(at > started for at in answered) > 100)
        finally:
            stop.set()
        assert [done.exception() for done in loads] == [None] * 4


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
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
    port = int(client.running.rest.rsplit(":", 1)[1])
    with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}"):
        start_server(f"--model_base_path={tiny}", rest_port=port)


def test_an_invalid_certificate_is_an_error(start_server, tiny, tmp_path):
    flag = ssl_config(tmp_path, b"no key", b"no certificate")
    with pytest.raises(ConfigurationError, match="certificate is not valid"):
        start_server(f"--model_base_path={tiny}", flag)
