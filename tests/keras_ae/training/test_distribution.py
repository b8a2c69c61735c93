"""Training on several devices, in separate processes: devices are set up before Keras starts."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TRAIN = """
import json
import sys
from pathlib import Path
import keras
import numpy as np
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.datasets.tiles import Tiles
from keras_ae.training.ladder import Ladder
from tests.tiny import TINY

def train(batch_size, folder, states_to_resume):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (40, 40, 3), np.uint8) for _ in range(3)]
    model = ConvAutoencoder(TINY, seed=3)
    ladder = Ladder(model, Tiles(images, stride=8, size=32, batch_size=batch_size, seed=3))
    losses = [ladder.train(epoch).loss for epoch in (1, 2)]
    with ladder.ema_model():
        arrays = ladder.to_arrays()
    losses += [float(np.abs(a).sum()) for name, a in arrays.items() if "model" in name]
    name = f"{batch_size}-{ladder.placement.split()[0]}.npz"
    ladder.save(Path(folder) / name)
    ladder.restore(Path(states_to_resume) / name)
    losses.append(ladder.train(3).loss)
    return losses, ladder
"""

JAX = (
    """
import jax
mode, port, rank, *folders = sys.argv[1:]
if mode == "devices":
    jax.config.update("jax_num_cpu_devices", 2)
if mode == "processes":
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, int(rank))
"""
    + TRAIN
    + """
from keras_ae.training.backends import jax as backend
if mode != "one":
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
results = {}
cases = ((3, False), (8, True))
if mode != "processes":
    cases += ((8, False),)
for batch_size, fits in cases:
    backend._fits = lambda tiles: fits
    losses, ladder = train(batch_size, *folders)
    devices = ladder.model.trainable_variables[0].value.sharding.device_set
    assert len(devices) == (1 if mode == "one" else 2)
    results[f"{batch_size} {ladder.placement}"] = losses
print(json.dumps(results))
"""
)

TENSORFLOW = (
    """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""
    + TRAIN
    + """
from contextlib import nullcontext
for name in ("one", "devices"):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope() if name == "devices" else nullcontext():
        # One device has two of the three tiles.
        results = {batch_size: train(batch_size, *sys.argv[1:])[0] for batch_size in (3,)}
    print(json.dumps(results))
"""
)


def start(program: str, backend: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", "import sys\n" + program, *arguments],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # JAX then compiles in a third of the time.
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        },
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
    )


def results(process: subprocess.Popen) -> dict[str, list[float]]:
    return json.loads(lines(process)[-1])


def lines(process: subprocess.Popen) -> list[str]:
    try:
        output, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0
    return output.splitlines()


def assert_close(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> None:
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("one"))
    return results(start(JAX, "jax", "one", "0", "0", folder, folder)), folder


def test_two_jax_devices_give_the_losses_and_weights_of_one(one_device, tmp_path):
    expected, folder = one_device
    assert len(expected) == 3
    process = start(JAX, "jax", "devices", "0", "0", str(tmp_path), folder)
    assert_close(results(process), expected)


def test_two_jax_processes_give_the_losses_and_weights_of_one(one_device, tmp_path):
    expected, folder = one_device
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    folders = [tmp_path / "0", tmp_path / "1"]
    processes = [
        start(JAX, "jax", "processes", port, str(rank), str(own), folder)
        for rank, own in enumerate(folders)
    ]
    try:
        for measured in [results(process) for process in processes]:
            assert len(measured) == 2
            assert_close(measured, {name: expected[name] for name in measured})
    finally:
        for process in processes:
            process.kill()
    assert len(list(folders[0].iterdir())) == 2
    assert not folders[1].exists()


def test_two_tensorflow_devices_give_the_losses_and_weights_of_one(tmp_path):
    process = start(TENSORFLOW, "tensorflow", str(tmp_path), str(tmp_path))
    one, two = (json.loads(line) for line in lines(process)[-2:])
    assert_close(two, one)
