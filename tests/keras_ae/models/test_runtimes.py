"""Models that were loaded from a file and exported by Keras, in other runtimes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ae.models.autoencoder import ConvAutoencoder, load_model

SIZES = [(64, 64), (40, 96)]
TOLERANCE = 1e-5
"""Absolute, for pixels 0..1 and for latents of unit variance."""


@pytest.fixture(scope="module")
def folder(tiny_model) -> Path:
    return tiny_model("residual")


@pytest.fixture(scope="module")
def model(folder) -> ConvAutoencoder:
    return load_model(folder / "model.keras")


def check_runtime(
    run: Callable[[np.ndarray], np.ndarray], part: keras.Model, size: tuple[int, int]
):
    """Compares a runtime with Keras on two random inputs for images of one size."""
    shape = (size[0] // 8, size[1] // 8, 8) if part.name == "decoder" else (*size, 3)
    values = np.random.default_rng(0).random((2, *shape), np.float32)
    expected = np.asarray(part(values))
    np.testing.assert_allclose(run(values), expected, rtol=0, atol=TOLERANCE)


def part_of(model: ConvAutoencoder, name: str) -> keras.Model:
    return model if name == "model" else getattr(model, name)


def test_an_exported_saved_model_computes_the_same_as_keras_and_the_served_one(folder, tmp_path):
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


def test_a_saved_model_exported_on_jax_computes_the_same_as_keras(folder, model, tmp_path):
    program = """
import sys, keras_ae
model = keras_ae.load_model(sys.argv[1])
assert type(model).__name__ == "ConvAutoencoder"
model.export(sys.argv[2], verbose=False)
"""
    process = subprocess.run(
        [sys.executable, "-c", program, str(folder / "model.keras"), str(tmp_path / "exported")],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    for size in SIZES:
        images = np.random.default_rng(0).random((2, *size, 3), np.float32)
        expected = np.asarray(model(images))
        pixels = exported.serve(images).numpy()
        np.testing.assert_allclose(pixels, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.filterwarnings("ignore:In the future `np.object` will be:FutureWarning")
@pytest.mark.parametrize("name", ["encoder", "decoder", "model"])
def test_onnx_runtime_computes_the_same_as_keras_at_any_size(model, tmp_path, name):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    part, path = part_of(model, name), tmp_path / "part.onnx"
    part.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path)
    input_name = session.get_inputs()[0].name
    for size in SIZES:
        check_runtime(lambda values: session.run(None, {input_name: values})[0], part, size)


def litert_function(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that runs a model in LiteRT."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(path))
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(values: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(inputs["index"], values.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(inputs["index"], values)
        interpreter.invoke()
        return interpreter.get_tensor(outputs["index"])

    return run


@pytest.mark.parametrize("name", ["encoder", "decoder", "model"])
def test_litert_computes_the_same_as_keras_at_any_size(model, tmp_path, name):
    part, path = part_of(model, name), tmp_path / "part.tflite"
    part.export(path, format="litert", verbose=False)
    run = litert_function(path)
    for size in SIZES:
        check_runtime(run, part, size)


@pytest.mark.parametrize("size", SIZES)
def test_litert_runs_the_baseline_decoder_at_the_exported_size(tmp_path, size):
    decoder = ConvAutoencoder("baseline", seed=0).decoder
    signature = [keras.InputSpec(shape=(2, size[0] // 8, size[1] // 8, 8), dtype="float32")]
    path = tmp_path / "part.tflite"
    decoder.export(path, format="litert", verbose=False, input_signature=signature)
    check_runtime(litert_function(path), decoder, size)
