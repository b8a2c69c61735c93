"""What an export says for files of latents, and the commands that use it without a server."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ae import contract as c
from keras_ae.codec import images
from keras_ae.codec.__main__ import main
from keras_ae.codec.file import read_header
from keras_ae.codec.steps import step_values
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder, load_model
from keras_ae.models.layers import to_float
from keras_ae.saved_model.latent_files import measure_steps, model_id
from keras_ae.scoring.models import load
from tests.tiny import TINY


@pytest.fixture(scope="module", params=["plain", "residual"])
def folder(request, tiny_model):
    return tiny_model(request.param)


def test_outputs_name_the_model_and_its_steps_in_each_row(folder, photographs):
    model = load_model(folder / "model.keras")
    signatures = tf.saved_model.load(str(folder / "Format-Serving")).signatures
    crops = np.stack([photographs[0][:20, :30], photographs[1][:20, :30]])
    encoded = signatures[c.ENCODE](images=tf.constant(crops))
    decoded = signatures[c.DECODE](latents=encoded[c.LATENTS])
    expected = [model_id(model).encode()] * 2
    assert encoded[c.MODEL_ID].numpy().tolist() == decoded[c.MODEL_ID].numpy().tolist() == expected
    steps = encoded[c.STEPS].numpy()
    np.testing.assert_array_equal(steps[0], steps[1])
    assert steps.shape == (2, 8)


def test_a_step_of_a_channel_changes_photographs_by_one_grey_level(folder, photographs):
    model = load_model(folder / "model.keras")
    signatures = tf.saved_model.load(str(folder / "Format-Serving")).signatures
    latents = np.asarray(model.encode(to_float(photographs[1][None, :256, :256])))
    indices = signatures[c.ENCODE](images=tf.zeros((1, 1, 1, 3), tf.uint8))[c.STEPS][0]
    steps = step_values(indices.numpy())
    signs = np.random.default_rng(1).choice([-1, 1], latents.shape[:3])
    for channel, step in enumerate(steps):
        changed = latents.copy()
        changed[..., channel] += signs * step
        change = 255 * (np.asarray(model.decode(changed)) - np.asarray(model.decode(latents)))
        assert np.sqrt(np.mean(np.square(change))) == pytest.approx(1, rel=0.15)


def test_steps_of_a_channel_that_the_decoder_ignores_are_infinite(photographs):
    model = ConvAutoencoder(TINY)
    pca = linear.fit(linear.patch_moments(photographs, 8), 8)
    linear.set_linear_path(model, pca)
    layer = model.decoder.get_layer("linear_decode")
    kernel, bias = layer.get_weights()
    kernel[..., 3, :] = 0
    layer.set_weights([kernel, bias])
    assert np.flatnonzero(np.isinf(measure_steps(model, pca))).tolist() == [3]


def test_models_that_share_a_graph_keep_their_own_ids(tiny_model, photographs):
    paths = [str(tiny_model(name) / "Format-Serving") for name in ("plain", "residual")]
    one, other = load(paths, 3, graph_of=lambda _: paths[0])
    image = photographs[0][None, :16, :16]
    ids = [
        model._graph.run(model._weights, c.ENCODE, {c.IMAGES: image})[c.MODEL_ID][0].numpy()
        for model in (one, other, one)
    ]
    assert ids[0] == ids[2] != ids[1]


def test_commands_use_a_saved_model_without_a_server(tiny_model, photographs, tmp_path, capsys):
    image = photographs[1][:50, :70]
    source, file, target = (tmp_path / name for name in ("a.png", "a.kae", "b.png"))
    Image.fromarray(image).save(source)
    folder = str(tiny_model() / "Format-Serving")
    assert main(["--model", folder, "compress", str(source), str(file), "--psnr", "20"]) == 0
    assert "a.kae: 70x50 RGB, " in capsys.readouterr().out
    assert main(["--model", folder, "decompress", str(file), str(target)]) == 0
    decompressed = np.asarray(Image.open(io.BytesIO(target.read_bytes())))
    assert images.psnr(image, decompressed) >= 20
    other = str(tiny_model("residual") / "Format-Serving")
    assert main(["--model", other, "decompress", str(file), str(target)]) == 1
    assert read_header(file.read_bytes()).model_id.hex() in capsys.readouterr().err
    assert main(["--model", str(tmp_path), "compress", str(source), str(file)]) == 1
    assert "expected the folder of a version, such as" in capsys.readouterr().err
    assert main(["--model", folder, "compress", str(source), str(source)]) == 1
    assert "expected an output file that ends in .kae" in capsys.readouterr().err
    assert main(["--model", folder, "compress", str(file), str(file)]) == 1
    assert "is the input: write to another file" in capsys.readouterr().err
