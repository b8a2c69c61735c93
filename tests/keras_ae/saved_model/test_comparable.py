import shutil
from pathlib import Path

import pytest
import tensorflow as tf

from keras_ae import contract as c
from keras_ae.saved_model import comparable


@pytest.fixture
def copy(tiny_model, tmp_path) -> Path:
    """A copy of a SavedModel of RGB images."""
    return shutil.copytree(tiny_model() / "Format-Serving", tmp_path / "model")


def write_other(folder: Path, name: str, **outputs: str) -> None:
    """A SavedModel of another program, with one signature."""
    texts = tf.TensorSpec((None,), tf.string, name=c.EXAMPLES)
    module = tf.Module()
    module.function = tf.function(lambda examples: {"y": examples}, input_signature=[texts])
    shutil.rmtree(folder)
    tf.saved_model.save(module, str(folder), signatures={name: module.function})


def test_models_of_the_same_channels_can_be_compared(tiny_model):
    for channels in (1, 3):
        model = tiny_model(channels=channels) / "Format-Serving"
        assert comparable.read_channels(model) == channels
        assert comparable.signature_fault(model, channels) == ""
    assert comparable.signature_fault(model, 1) == "has 3 channels, and this model has 1"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda m: write_other(m, c.SERVING_DEFAULT), "has no signature `score`"),
        (
            lambda m: write_other(m, c.SCORE),
            "has a signature `score` with other inputs or outputs than `examples` and `psnr`, "
            "`ssim`, `floor_psnr`",
        ),
        (shutil.rmtree, "is not a model of images: saved_model.pb cannot be read: No such file"),
        (
            lambda m: (m / "saved_model.pb").write_bytes(b"no graph"),
            "is not a model of images: saved_model.pb is not a SavedModel",
        ),
        (lambda m: (m / "saved_model.pb").write_bytes(b""), "has no signature `score`"),
    ],
)
def test_other_models_cannot_be_compared_and_the_reason_says_why(copy, change, fault):
    change(copy)
    assert comparable.signature_fault(copy, 3).startswith(fault)


def test_a_model_is_loaded_to_see_whether_it_can_score_an_image(
    copy, write_examples, photographs, tmp_path
):
    pattern, _ = write_examples([photographs[0][:64, :64]])
    files = [pattern.replace("*", "0")]
    assert comparable.score_fault(copy, files) == ""
    with tf.io.TFRecordWriter(str(tmp_path / "bad.gz"), options="GZIP") as writer:
        writer.write(tf.train.Example().SerializeToString())
    fault = "gives no number as psnr and floor_psnr of a test image"
    assert comparable.score_fault(copy, [str(tmp_path / "bad.gz")]) == fault
    (copy / "variables" / "variables.data-00000-of-00001").write_bytes(b"")
    assert comparable.score_fault(copy, files).startswith("cannot be loaded: ")


def test_models_of_other_levels_cannot_be_compared(copy, tmp_path):
    other = tmp_path / "other"
    file = copy / c.METADATA_FILE
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    # Old models do not name one, nor do those of other programs.
    for text in ("", "[]", "{}", '{"white": "all"}', '{"white": 65535}'):
        file.write_text(text)
        assert comparable.level_fault(copy, other) == ""
    file.write_text('{"white": 4095, "digest": "0123"}')
    fault = "takes 4095 for white in 16-bit images, and this model takes 65535"
    assert comparable.level_fault(copy, other) == fault
