import random
import sys
import threading

import keras
import numpy as np
import pytest

from keras_ae import presets
from keras_ae.errors import ConfigurationError
from keras_ae.models.autoencoder import ConvAutoencoder


@pytest.mark.parametrize("preset", presets.PRESETS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(64, 64), (1, 1), (9, 30), (17, 8)])
def test_reconstructions_have_the_size_of_the_image(preset, channels, size):
    model = ConvAutoencoder(preset, channels)
    images = np.random.default_rng(0).random((2, *size, channels), np.float32)
    latents = model.encode(images)
    assert tuple(latents.shape) == (2, -(-size[0] // 8), -(-size[1] // 8), 8)
    assert tuple(model.decode(latents).shape)[1] == -(-size[0] // 8) * 8
    assert tuple(model(images).shape) == images.shape


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_config_and_weights_are_restored_from_a_file(preset, tmp_path):
    model = ConvAutoencoder(
        preset, channels=1, stride=4, latent_channels=3, precision="bfloat16", name="ae"
    )
    rebuilt = ConvAutoencoder.from_config(model.get_config())
    assert rebuilt.get_config() == model.get_config()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).random((1, 12, 20, 1), np.float32)
    np.testing.assert_array_equal(np.asarray(model(images)), np.asarray(loaded(images)))


def test_the_seed_alone_determines_the_weights_whatever_other_threads_draw():
    weights = [ConvAutoencoder("small", seed=seed).get_weights() for seed in (5, 6)]
    assert any((a != b).any() for a, b in zip(*weights))
    finished = threading.Event()

    def draw():
        while not finished.is_set():
            random.random()

    thread = threading.Thread(target=draw)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        weights_again = ConvAutoencoder("small", seed=5).get_weights()
    finally:
        finished.set()
        sys.setswitchinterval(interval)
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(weights[0], weights_again, strict=True))


def test_the_residual_path_starts_at_zero():
    model = ConvAutoencoder("medium")
    for layer in (
        model.encoder.get_layer("encode_out"),
        model.decoder.get_layer("decode_out"),
    ):
        assert all(not weight.any() for weight in layer.get_weights())


def test_all_presets_have_the_same_latent_size():
    images = np.zeros((1, 64, 64, 3), "float32")
    sizes = {tuple(ConvAutoencoder(name).encode(images).shape) for name in presets.PRESETS}
    assert sizes == {(1, 8, 8, 8)}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"preset": "vgg"}, "preset must be one of baseline, small, medium, large; got 'vgg'"),
        ({"channels": 2}, "channels must be 1 or 3; got 2"),
        ({"precision": "int8"}, "precision must be one of float32, bfloat16; got 'int8'"),
        ({"stride": 6}, "power of two from 2; got 6"),
        ({"latent_channels": 193}, "1 to 192.*got 193"),
    ],
)
def test_wrong_arguments_are_refused_with_a_reason(arguments, text):
    with pytest.raises(ConfigurationError, match=text):
        ConvAutoencoder(**arguments)
