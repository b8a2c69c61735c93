import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

VAL_MSE = [0.0001, 0.001, 0.01, 0.1]


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """A SavedModel of RGB images that starts from PCA; not to be changed."""
    from PIL import Image

    from keras_ae import linear
    from keras_ae.datasets.sample_photos import path_of
    from keras_ae.export import export
    from keras_ae.models import ConvAutoencoder

    photograph = np.asarray(Image.open(path_of("skimage/chelsea.png")).convert("RGB"))
    pca = linear.fit(linear.patch_moments([photograph], 8), 8)
    model = ConvAutoencoder("small")
    linear.set_linear_path(model, pca)
    path = tmp_path_factory.mktemp("exported") / "model"
    export(model, path, floor=pca, val_mse=VAL_MSE)
    return path


@pytest.fixture
def base_path(exported, tmp_path) -> Path:
    """A folder of version folders with one version, 1."""
    shutil.copytree(exported, tmp_path / "keras_ae" / "1")
    return tmp_path / "keras_ae"


@pytest.fixture
def free_port():
    """Ports that nothing listened on a moment ago: free_port() -> int."""

    def port() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return port
