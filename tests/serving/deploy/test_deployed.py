"""The local server, started as the deployment files and `make serve` start a server."""

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import yaml
from PIL import Image

from serving.wire import services
from serving.wire.protos import ReloadConfigRequest

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "serving" / "deploy"


def get(url: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as answer:
        return answer.read()


def states(rest: str) -> list[str]:
    """The states of the model's versions; empty while no server listens."""
    try:
        status = json.loads(get(f"{rest}/v1/models/keras_ae"))
    except (urllib.error.URLError, ConnectionError):
        return []
    return [version["state"] for version in status["model_version_status"]]


@contextmanager
def running(command: list[str], rest: str, log: Path, **options: Any) -> Iterator[subprocess.Popen]:
    """Runs a server until its model is available, and ends it afterwards."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, **options
        )
    try:
        deadline = time.monotonic() + 180
        while states(rest) != ["AVAILABLE"]:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def give_label(target: str, base_path: Path, version: int) -> grpc.StatusCode:
    """Names a version `canary` while the server runs."""
    request = ReloadConfigRequest()
    request.config.model_config_list.config.add(
        name="keras_ae",
        base_path=str(base_path),
        model_platform="tensorflow",
        version_labels={"canary": version},
    )
    with grpc.insecure_channel(target) as channel:
        stub = services.stub(services.MODEL, channel)
        try:
            stub.HandleReloadConfigRequest(request, timeout=60)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def service() -> dict[str, Any]:
    """The service of docker-compose, with batching."""
    documents = [
        yaml.safe_load((DEPLOY / name).read_text())["services"]["serving"]
        for name in ("docker-compose.yaml", "docker-compose.batching.yaml")
    ]
    return documents[0] | documents[1]


def test_the_flags_files_and_health_check_of_compose_work(service, base_path, free_port, tmp_path):
    port, rest_port = free_port(), free_port()
    rest = f"http://127.0.0.1:{rest_port}"
    shutil.copytree(DEPLOY / "config", tmp_path / "config")
    models = tmp_path / "config" / "models.config"
    models.write_text(models.read_text().replace("/models/keras_ae", str(base_path)))
    flags = [
        flag.replace("=/config/", f"={tmp_path}/config/")
        .replace("=8500", f"={port}")
        .replace("=8501", f"={rest_port}")
        for flag in service["command"]
    ]
    kind, *check = service["healthcheck"]["test"]
    assert kind == "CMD"
    check[-1] = check[-1].replace("8501", str(rest_port))
    assert subprocess.run(check, stderr=subprocess.DEVNULL).returncode != 0

    command = [sys.executable, "-m", "serving.server", *flags]
    environment = os.environ | service["environment"]
    log = tmp_path / "log"
    with running(command, rest, log, cwd=ROOT, env=environment) as process:
        assert subprocess.run(check).returncode == 0
        image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
        encoded = base64.b64encode(png(image)).decode()
        body = json.dumps({"instances": [{"image_bytes": {"b64": encoded}}]})
        (answer,) = json.loads(get(f"{rest}/v1/models/keras_ae:predict", body.encode()))[
            "predictions"
        ]
        reconstruction = base64.b64decode(answer["reconstruction_png_bytes"]["b64"])
        assert Image.open(io.BytesIO(reconstruction)).size == (56, 40)
        metrics = get(f"{rest}/monitoring/prometheus/metrics").decode()
        assert ':tensorflow:serving:request_count{model_name="keras_ae",status="OK"} 1' in metrics
        # A new label may be assigned to a version that is not loaded, as at the start of a server;
        # a label that is in use may not.
        assert give_label(f"127.0.0.1:{port}", base_path, 2) == grpc.StatusCode.OK
        refused = give_label(f"127.0.0.1:{port}", base_path, 3)
        assert refused == grpc.StatusCode.FAILED_PRECONDITION
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    assert subprocess.run(check, stderr=subprocess.DEVNULL).returncode != 0


def test_make_serve_serves_what_a_run_has_pushed(publish, free_port, tmp_path):
    root = tmp_path / "run"
    (root / "serving").mkdir(parents=True)
    publish(under=root / "serving" / "keras_ae")
    port, rest_port = free_port(), free_port()
    command = ["make", "-o", ".venv/.done", "serve", f"ROOT={root}", f"PORT={port}"]
    # ARGS may be those that the tests themselves are run with.
    command += [f"REST_PORT={rest_port}", f"BIN={Path(sys.executable).parent}", "ARGS="]
    # Without tensorflow_model_server, wherever this machine may have it.
    path = tmp_path / "bin"
    path.mkdir()
    for tool in ("make", "dirname", "sh"):
        (path / tool).symlink_to(str(shutil.which(tool)))
    log = tmp_path / "log"
    rest = f"http://127.0.0.1:{rest_port}"
    environment = os.environ | {"PATH": str(path)}
    with running(command, rest, log, cwd=ROOT, env=environment) as process:
        assert "with the local server" in log.read_text()
        assert str(root / "serving" / "keras_ae") in log.read_text()
        # What a terminal sends for Ctrl-C.
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)
        assert "stopped" in log.read_text()
