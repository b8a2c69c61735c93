import contextlib
import functools
import io
import shutil
import socket
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.serving import servers

ODD_NAME = "odd/b & <i>c"
MAX_BODY = 4 * 2**20
METRICS_PATH = "/my/metrics"


class RestServer:
    """A server in a process of its own, and an HTTP client of it.

    Attributes:
        url: "http://127.0.0.1:PORT".
        client: httpx.Client.
        process: servers.Process.
    """

    def __init__(self, process: servers.Process, client: httpx.Client):
        self.url, self.process, self.client = process.rest, process, client

    def predict(self, body, path="/v1/models/keras_ae:predict", **options):
        return self.client.post(path, json=body, **options)

    def has(self, model: str) -> bool:
        """Whether all versions of a model are there; fails if the server has ended."""
        assert self.process.process.poll() is None, self.process.log
        try:
            found = self.client.get(f"/v1/models/{model}").json()
        except httpx.TransportError:
            return False
        versions = found.get("model_version_status", [])
        return {version["state"] for version in versions} == {"AVAILABLE"}


@contextlib.contextmanager
def running(folder: Path, models, *flags):
    """Starts a server, waits until it has the models, and stops it afterwards."""
    process = servers.Process(folder, _free_port(), _free_port(), flags)
    try:
        with httpx.Client(base_url=process.rest, timeout=60) as client:
            server = RestServer(process, client)
            for model in models:
                servers.wait_until(functools.partial(server.has, model))
            yield server
            assert process.process.poll() is None, process.log
    finally:
        process.process.kill()
        process.process.wait(60)


@pytest.fixture(scope="session")
def rest_server(exported, tmp_path_factory):
    """A server with two versions of `keras_ae`, the first labelled "stable", and an oddly named
    model; it takes bodies of at most MAX_BODY bytes."""
    folder = tmp_path_factory.mktemp("rest")
    for version in ("keras_ae/1", "keras_ae/2", "odd/5"):
        # One is warmed up; for the others it would only take time.
        cold = shutil.ignore_patterns("*warmup*") if version != "keras_ae/1" else None
        shutil.copytree(exported, folder / version, ignore=cold)
    (folder / "models").write_text(
        "model_config_list {"
        f'config {{ name: "keras_ae" base_path: "{folder}/keras_ae" model_platform: "tensorflow"'
        ' model_version_policy { all {} } version_labels { key: "stable" value: 1 } }'
        f"config {{ name: '{ODD_NAME}' base_path: \"{folder}/odd\""
        ' model_platform: "tensorflow" } }'
    )
    (folder / "monitoring").write_text(
        f'prometheus_config {{ enable: true path: "{METRICS_PATH}" }}'
    )
    flags = (
        f"--model_config_file={folder}/models",
        f"--monitoring_config_file={folder}/monitoring",
        f"--max_message_bytes={MAX_BODY}",
    )
    names = ["keras_ae", "odd%2Fb%20%26%20%3Ci%3Ec"]
    with running(folder, names, *flags) as server:
        yield server


@pytest.fixture
def impatient_server(base_path, tmp_path):
    """A server that gives a request one millisecond, and shows no metrics."""
    flags = ("--model_name=keras_ae", f"--model_base_path={base_path}")
    with running(tmp_path, ["keras_ae"], *flags, "--rest_api_timeout_in_ms=1") as server:
        yield server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """uint8 [120, 160, 3]."""
    from PIL import Image

    from keras_ae.datasets.sample_photos import path_of

    image = Image.open(path_of("skimage/astronaut.png")).convert("RGB")
    return np.asarray(image.crop((100, 40, 420, 280)).resize((160, 120)))


@pytest.fixture(scope="session")
def png():
    """png(uint8 array) -> the bytes of a PNG file."""
    from PIL import Image

    def encoded(pixels) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    return encoded
