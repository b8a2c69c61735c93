import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.servers import free_port
from tests.serving import servers
from tests.tiny import TINY

VAL_MSE = np.geomspace(1e-4, 1e-1, 200).tolist()


@pytest.fixture(scope="session")
def exported(once) -> Path:
    """A SavedModel for RGB images, initialized from PCA. Tests must not change it."""
    from PIL import Image

    from keras_ae.datasets.sources.sample_photos import path_of
    from keras_ae.models import linear
    from keras_ae.models.autoencoder import ConvAutoencoder
    from keras_ae.saved_model.export import export

    def make(folder: Path) -> None:
        photograph = np.asarray(Image.open(path_of("skimage/chelsea.png")).convert("RGB"))
        pca = linear.fit(linear.patch_moments([photograph], 8), 8)
        model = ConvAutoencoder(TINY)
        linear.set_linear_path(model, pca)
        export(model, folder, floor=pca, val_mse=VAL_MSE)

    return once("exported", make)


@pytest.fixture(scope="session")
def cold(exported, once) -> Path:
    """`exported` without warm-up requests, which take longer than the requests of most tests."""
    ignore = shutil.ignore_patterns("assets.extra")
    return once("cold", lambda folder: shutil.copytree(exported, folder, ignore=ignore))


@pytest.fixture(scope="session")
def in_process(cold) -> Any:
    """`exported`, loaded by TensorFlow in this process."""
    import tensorflow as tf

    return tf.saved_model.load(str(cold))


@pytest.fixture
def base_path(cold, tmp_path) -> Path:
    """A folder of version folders with one version, 1."""
    shutil.copytree(cold, tmp_path / "keras_ae" / "1")
    return tmp_path / "keras_ae"


CONFIG = """
model_config_list {{ config {{ name: "keras_ae" base_path: "{real}" model_platform: "tensorflow" }}
  config {{ name: "m" base_path: "{tiny}" model_platform: "tensorflow"
  model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
  version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }} }} }}
"""


@pytest.fixture(scope="session")
def real_server(exported, tiny, tmp_path_factory) -> Iterator[servers.Client]:
    """A client of a server in a thread, with version 1 of `keras_ae`, and tiny ones 1 and 2 of `m`.

    Tests must not change it.
    """
    folder = tmp_path_factory.mktemp("real")
    (folder / "keras_ae").mkdir()
    (folder / "keras_ae" / "1").symlink_to(exported, target_is_directory=True)
    (folder / "models").write_text(CONFIG.format(real=folder / "keras_ae", tiny=tiny))
    flags = [f"--model_config_file={folder}/models", servers.LABELS_AHEAD]
    with servers.started(flags) as client:
        client.wait_for({1: "AVAILABLE", 2: "AVAILABLE"}, "m")
        client.wait_for({1: "AVAILABLE"}, "keras_ae")
        yield client


@pytest.fixture(scope="session")
def mixed_server(tiny, tiny_model, tmp_path_factory) -> Iterator[servers.Client]:
    """A server with the models `adder`, no autoencoder, `few`, with 4 val images, and `grey`."""
    folder = tmp_path_factory.mktemp("mixed")
    ignore = shutil.ignore_patterns("assets.extra")
    shutil.copytree(tiny / "1", folder / "adder" / "1")
    for name, model in (("few", tiny_model()), ("grey", tiny_model("uncalibrated", 1))):
        shutil.copytree(model / "Format-Serving", folder / name / "1", ignore=ignore)
    configs = [
        f'config {{ name: "{name}" base_path: "{folder}/{name}" model_platform: "tensorflow" }}'
        for name in ("adder", "few", "grey")
    ]
    (folder / "models").write_text(f"model_config_list {{ {' '.join(configs)} }}")
    with servers.started([f"--model_config_file={folder}/models"]) as client:
        for name in ("adder", "few", "grey"):
            client.wait_for({1: "AVAILABLE"}, name)
        yield client


@pytest.fixture(name="free_port")
def port_source() -> Callable[[], int]:
    """free_port() -> a port that no process listens on."""
    return free_port


@pytest.fixture
def serve(tmp_path, free_port):
    """Starts the server for a folder of versions: serve(base_path, *flags), ready when it returns.

    The model is called keras_ae. `ready=False` does not wait until it listens.
    """
    running = []

    def start(base_path: Path, *flags: str, ready: bool = True) -> servers.Process:
        named = ("--model_name=keras_ae", f"--model_base_path={base_path}", *flags)
        process = servers.Process(tmp_path, free_port(), free_port(), named)
        running.append(process)
        if ready:
            process.wait_for("REST at")
        return process

    yield start
    for server in running:
        server.process.kill()
        server.process.wait(60)


@pytest.fixture(scope="module")
def start_server():
    """A server in a thread: start_server(*flags, poll=.., retry=..) -> servers.Client."""
    with contextlib.ExitStack() as running:

        def start(*argv: str, **options: Any) -> servers.Client:
            return running.enter_context(servers.started(argv, **options))

        yield start


@pytest.fixture(scope="session")
def tiny(once) -> Path:
    """Folder of the SavedModels 1 to 3 of `servers.save_tiny`."""
    return once("tiny", lambda folder: servers.save_tiny(folder, (1, 2, 3)))


@pytest.fixture
def publish(tiny, tmp_path):
    """publish(number, version): adds a tiny model atomically, as the pipeline does."""
    base = tmp_path / "base"
    base.mkdir()

    def put(number: int = 1, version: int | None = None, under: Path = base) -> Path:
        under.mkdir(exist_ok=True)
        shutil.copytree(tiny / str(number), tmp_path / "half-written")
        final = under / str(version or number)
        (tmp_path / "half-written").rename(final)
        return final

    put.base = base
    return put
