"""What Keras exports of a model that was loaded from a file, in the runtimes that it is for."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.models.loading import load_model

SIZES = [(64, 64), (40, 96)]
TOLERANCE = 1e-5
"""On pixels 0..1 and on latents of unit variance."""


@pytest.fixture(scope="module")
def folder(tiny_model) -> Path:
    return tiny_model(lively=True)


@pytest.fixture(scope="module")
def model(folder) -> ConvAutoencoder:
    return load_model(folder / "model.keras")


def check(run: Callable[[np.ndarray], np.ndarray], part: keras.Model, size: tuple[int, int]):
    """Compares with Keras on two inputs that stand for images of one size."""
    shape = (size[0] // 8, size[1] // 8, 8) if part.name == "decoder" else (*size, 3)
    values = np.random.default_rng(0).random((2, *shape), np.float32)
    expected = np.asarray(part(values))
    np.testing.assert_allclose(run(values), expected, rtol=0, atol=TOLERANCE)


def part_of(model: ConvAutoencoder, name: str) -> keras.Model:
    return model if name == "model" else getattr(model, name)


def test_the_saved_model_of_a_loaded_model_reconstructs_the_same(
    folder, tmp_path, unoptimized_graphs
):
    model = keras.saving.load_model(folder / "model.keras")
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    served = tf.saved_model.load(str(folder / "Format-Serving")).signatures["reconstruct"]
    for size in (*SIZES, (33, 1)):
        images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
        pixels = exported.serve(images / np.float32(255)).numpy()
        expected = np.asarray(model(images / np.float32(255)))
        np.testing.assert_allclose(pixels, expected, rtol=0, atol=TOLERANCE)
        levels = served(tf.constant(images))["reconstructions"].numpy()
        assert np.abs(np.clip(pixels, 0, 1) * 255 - levels).max() <= 0.51


def test_a_model_loaded_on_jax_is_exported_to_a_saved_model(folder, model, tmp_path):
    program = """
import sys, keras_ae
keras_ae.load_model(sys.argv[1]).export(sys.argv[2], verbose=False)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder / "model.keras"), str(tmp_path / "exported")],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    for size in SIZES:
        images = np.random.default_rng(0).random((2, *size, 3), np.float32)
        expected = np.asarray(model(images))
        pixels = exported.serve(images).numpy()
        np.testing.assert_allclose(pixels, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.filterwarnings("ignore:In the future `np.object` will be:FutureWarning")
@pytest.mark.parametrize("name", ["encoder", "decoder", "model"])
def test_onnx_runtime_computes_what_keras_does_at_any_size(model, tmp_path, name):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    part, path = part_of(model, name), tmp_path / "part.onnx"
    part.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path)
    name_of_input = session.get_inputs()[0].name
    for size in SIZES:
        check(lambda values: session.run(None, {name_of_input: values})[0], part, size)


def in_litert(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(path))
    before, after = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(values: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(before["index"], values.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(before["index"], values)
        interpreter.invoke()
        return interpreter.get_tensor(after["index"])

    return run


@pytest.mark.parametrize("name", ["encoder", "decoder", "model"])
def test_litert_computes_what_keras_does_at_any_size(model, tmp_path, name):
    part, path = part_of(model, name), tmp_path / "part.tflite"
    part.export(path, format="litert", verbose=False)
    run = in_litert(path)
    for size in SIZES:
        check(run, part, size)


@pytest.mark.parametrize("size", SIZES)
def test_the_plain_network_is_decoded_in_litert_at_the_size_that_it_was_exported_for(
    tmp_path, size
):
    decoder = ConvAutoencoder("baseline", seed=0).decoder
    signature = [keras.InputSpec(shape=(2, size[0] // 8, size[1] // 8, 8), dtype="float32")]
    path = tmp_path / "part.tflite"
    decoder.export(path, format="litert", verbose=False, input_signature=signature)
    check(in_litert(path), decoder, size)
