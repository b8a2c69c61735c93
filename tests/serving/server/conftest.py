import io

import httpx
import numpy as np
import pytest

from tests.serving import servers

ODD_NAME = "odd/b & <i>c"
MAX_BODY = 4 * 2**20
METRICS_PATH = "/my/metrics"


class RestServer:
    """A server in a thread, and an HTTP client of it.

    Attributes:
        url: "http://127.0.0.1:PORT".
        client: httpx.Client.
    """

    def __init__(self, client: httpx.Client):
        self.url, self.client = str(client.base_url), client

    def predict(self, body, path="/v1/models/keras_ae:predict", **options):
        return self.client.post(path, json=body, **options)


@pytest.fixture(scope="session")
def rest_server(exported, cold, tmp_path_factory):
    """A server with two versions of `keras_ae`, the first labelled "stable", and an oddly named
    model; it takes bodies of at most MAX_BODY bytes."""
    folder = tmp_path_factory.mktemp("rest")
    # Most requests go to the newest version, which has warm-up requests.
    for version, model in (("keras_ae/1", cold), ("keras_ae/2", exported), ("odd/5", cold)):
        (folder / version).parent.mkdir(exist_ok=True)
        (folder / version).symlink_to(model, target_is_directory=True)
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
        servers.LABELS_AHEAD,
        f"--monitoring_config_file={folder}/monitoring",
        f"--max_message_bytes={MAX_BODY}",
    )
    with servers.started(flags) as server:
        server.wait_for({1: "AVAILABLE", 2: "AVAILABLE"}, "keras_ae")
        server.wait_for({5: "AVAILABLE"}, ODD_NAME)
        with httpx.Client(base_url=server.running.rest, timeout=60) as client:
            yield RestServer(client)


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """uint8 [120, 160, 3]."""
    from PIL import Image

    from keras_ae.datasets.sources.sample_photos import path_of

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
