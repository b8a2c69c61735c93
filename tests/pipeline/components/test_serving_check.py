import json
import sys
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf
from tfx.dsl.components.base import base_executor
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from keras_ae.datasets.sources.base import Record
from keras_ae.models.autoencoder import ConvAutoencoder
from pipeline.components.image_example_gen.writing import to_example
from pipeline.components.pusher import executor as pusher
from pipeline.components.serving_check import executor, server
from pipeline.runtime import artifacts, versions
from tests.processes import await_end
from tests.tiny import TILE, TINY

# A part of what a server does: it finds the SavedModel, images and reconstructions.
CHECK = """
import json, pathlib, sys
import numpy as np
model, dash = sys.argv[-2:]
assert dash == "-"
assert pathlib.Path(model, "saved_model.pb").is_file()
with np.load(json.loads(sys.stdin.readline())) as arrays:
    for i in range(3):
        assert arrays[f"images_{i}"].shape == arrays[f"reconstructions_{i}"].shape
"""
REFUSE = "import sys; sys.exit('starting\\nerror: REST: 7 grey levels')"


@pytest.fixture(scope="module")
def model_folder(tiny_model) -> Path:
    """A Model artifact's folder: SavedModel and `model.keras`."""
    return tiny_model()


@pytest.fixture
def check(photographs, encode, tmp_path, model_folder):
    """Runs ServingCheck: check(model folder, command, blessed, root) -> its InfraBlessing."""
    folder = tmp_path / "examples" / "Split-test"
    folder.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / "data.gz"), options="GZIP") as writer:
        for i, photograph in enumerate(photographs):
            writer.write(to_example(Record(f"{i}.png", encode(photograph, "PNG")), 3))

    def run(model=model_folder, command=(sys.executable, "-c", CHECK), blessed=1, root=tmp_path):
        examples = artifact(standard_artifacts.Examples, tmp_path / "examples")
        examples.split_names = '["test"]'
        infra_blessing = artifact(standard_artifacts.InfraBlessing, f"{root}/blessing")
        node = {"model_blessing": [model_blessing(tmp_path, blessed)]}
        node |= {"examples": [examples], "model": [artifact(standard_artifacts.Model, model)]}
        properties = {
            "push_destination": f"{root}/push",
            "tile": TILE,
            "command": json.dumps(command),
        }
        context = base_executor.BaseExecutor.Context(tmp_dir=str(tmp_path), unique_id="1")
        executor.Executor(context).Do(node, {"blessing": [infra_blessing]}, properties)
        return infra_blessing

    return run


def artifact(kind, uri):
    artifact = kind()
    artifact.uri = str(uri)
    return artifact


def model_blessing(root, blessed: int = 1):
    blessing = artifact(standard_artifacts.ModelBlessing, f"{root}/evaluated")
    blessing.set_int_custom_property("blessed", blessed)
    return blessing


def push(model, infra_blessing, root):
    """Runs the Pusher, and returns its PushedModel."""
    pushed = artifact(standard_artifacts.PushedModel, f"{root}/pushed")
    destination = pusher_pb2.PushDestination(
        filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=f"{root}/push")
    )
    pusher.Executor().Do(
        {
            "model": [artifact(standard_artifacts.Model, model)],
            "model_blessing": [model_blessing(root)],
            "infra_blessing": [infra_blessing],
        },
        {"pushed_model": [pushed]},
        {"push_destination": proto_utils.proto_to_json(destination), "custom_config": "{}"},
    )
    return pushed


@pytest.mark.parametrize("command", [(), (sys.executable, "-c", CHECK)])
def test_a_model_with_the_same_predictions_everywhere_is_pushed(
    check, model_folder, tmp_path, command
):
    blessing = check(command=command)
    # Images of three sizes: small, odd, and larger than a tile.
    with np.load(tmp_path / "blessing" / executor.EXPECTED) as arrays:
        images = [arrays[f"images_{i}"] for i in range(3)]
        reconstructions = [arrays[f"reconstructions_{i}"] for i in range(3)]
    assert [image.shape for image in images] == [(8, 64, 64, 3), (1, 37, 53, 3), (1, 296, 24, 3)]
    for image, reconstruction in zip(images, reconstructions):
        assert image.dtype == reconstruction.dtype == np.uint8
        difference = np.abs(image.astype(int) - reconstruction)
        assert 0 < difference.mean() < 20
    assert blessing.get_int_custom_property("blessed") == 1
    assert not blessing.has_custom_property("reason")
    assert [path.name for path in (tmp_path / "blessing").glob("INFRA*")] == ["INFRA_BLESSED"]
    assert push(model_folder, blessing, tmp_path).get_int_custom_property("pushed") == 1
    assert pusher.newest_version(tmp_path / "push") is not None


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ((sys.executable, "-c", REFUSE), "REST: 7 grey levels"),
        ((sys.executable, "-c", "import sys; sys.exit(3)"), "exit status 3"),
    ],
)
def test_a_server_with_other_predictions_blocks_the_push(
    check, model_folder, tmp_path, command, reason
):
    blessing = check(command=command)
    assert blessing.get_int_custom_property("blessed") == 0
    assert blessing.get_string_custom_property("reason") == reason
    assert push(model_folder, blessing, tmp_path).get_int_custom_property("pushed") == 0
    assert pusher.newest_version(tmp_path / "push") is None


def test_a_saved_model_that_is_not_the_keras_model_blocks_the_push(check, model_folder, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "Format-Serving").symlink_to(model_folder / "Format-Serving")
    ConvAutoencoder(TINY).save(model / executor.MODEL)
    blessing = check(model)
    reason = blessing.get_string_custom_property("reason")
    assert "differs from model.keras by" in reason
    assert "on an image of 64x64; at most 1 is allowed" in reason
    assert push(model, blessing, tmp_path).get_int_custom_property("pushed") == 0


def test_a_model_that_will_not_be_pushed_is_not_compared(check, model_folder, tmp_path):
    command = (sys.executable, "-c", REFUSE)
    refused = check(command=command, blessed=0)
    assert refused.get_int_custom_property("blessed") == 0
    assert not refused.has_custom_property("reason")
    digest = artifacts.model_digest(model_folder / "Format-Serving")
    pusher.publish(model_folder / "Format-Serving", tmp_path / "push", {"digest": digest})
    assert check(command=command).get_int_custom_property("blessed") == 1
    pusher.publish(model_folder / "Format-Serving", tmp_path / "push", {"digest": "another"})
    assert check(command=command).get_int_custom_property("blessed") == 0


def test_in_a_bucket_it_is_compared_and_pushed_once(check, model_folder, tmp_path, bucket):
    model = bucket.put(model_folder, "model")
    blessing = check(model, (sys.executable, "-c", CHECK), root=bucket.uri)
    assert blessing.get_int_custom_property("blessed") == 1
    names = [name.removeprefix("blessing/") for name in bucket.names("blessing/")]
    assert sorted(names) == [executor.EXPECTED, executor.BLESSED]
    pushed = push(model, blessing, bucket.uri)
    assert pushed.get_int_custom_property("pushed") == 1
    version = pusher.newest_version(f"{bucket.uri}/push")
    assert pushed.get_string_custom_property("pushed_destination") == version
    digest = artifacts.model_digest(model_folder / "Format-Serving")
    assert versions.provenance(version)["digest"] == digest
    # It is in service now: neither compared nor pushed again.
    blessing = check(model, (sys.executable, "-c", REFUSE), root=bucket.uri)
    assert blessing.get_int_custom_property("blessed") == 1
    again = push(model, blessing, bucket.uri)
    assert again.get_int_custom_property("pushed") == 0
    assert again.get_string_custom_property(pusher.UNCHANGED) == version


def test_a_server_can_be_started_before_the_model_is_checked(check, model_folder, tmp_path):
    note = tmp_path / "started"
    command = (sys.executable, "-c", f"print(1, file=open({str(note)!r}, 'a')){CHECK}")
    with server.started_ahead(command):
        server.start(model_folder / "Format-Serving")
        assert check(command=command).get_int_custom_property("blessed") == 1
        assert note.read_text() == "1\n"
        # This one is not used.
        server.start(model_folder / "Format-Serving")
        children = psutil.Process().children()
        (started,) = (child for child in children if str(note) in " ".join(child.cmdline()))
    await_end(started)


def test_code_in_place_of_a_model_is_not_run(model_folder, tmp_path):
    marker = tmp_path / "was-here"
    path = str(marker)
    leave = keras.layers.Lambda(lambda images: (Path(path).touch(), images)[1])
    keras.Sequential([keras.Input((8, 8, 3)), leave]).save(tmp_path / executor.MODEL)
    marker.unlink()
    paths = model_folder / "Format-Serving", str(tmp_path / "*.gz")
    with pytest.raises(ValueError, match="safe_mode=False"):
        executor.compare(tmp_path / executor.MODEL, *paths, TILE, (), tmp_path / "expected.npz")
    assert not marker.exists()
