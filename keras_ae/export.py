"""A trained model as a SavedModel that takes encoded images and answers with scores."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ae import contract as c
from keras_ae import metrics
from keras_ae.errors import ConfigurationError, StorageError
from keras_ae.linear import PatchPCA, reconstruct
from keras_ae.models import ConvAutoencoder
from keras_ae.tiles import to_float, to_uint8

BATCH_PIXELS = 4_000_000
"""Images of one size go through the model together up to this many pixels, else one by one."""


def export(
    model: ConvAutoencoder, path: Path, *, floor: PatchPCA, val_mse: Sequence[float] = ()
) -> None:
    """Writes the SavedModel with the signatures named in `keras_ae.contract`.

    It computes in float32 on TensorFlow, whatever the model was trained on: a model of the JAX or
    the PyTorch backend is written by another Python process on the TensorFlow backend. What it
    answers is within one grey level of the model's own output, or three if the model computes in
    bfloat16.

    Args:
        model: the model to serve; its weights are copied.
        path: folder to write; must not exist or be empty.
        floor: PCA with as many latent numbers, for `floor_psnr`.
        val_mse: MSE of each val image, for `percentile`; NaN is answered where there is none.

    Raises:
        ConfigurationError: if TensorFlow is missing.
        StorageError: if that process fails; its last words are in the message.
    """
    if keras.backend.backend() != "tensorflow":
        _export_elsewhere(model, path, floor, val_mse)
        return
    if model.precision != "float32":
        weights = model.get_weights()
        model = ConvAutoencoder.from_config({**model.get_config(), "precision": "float32"})
        model.set_weights(weights)
    _write(_Serving(model, floor, np.sort(np.asarray(val_mse, np.float32))), path)


def _export_elsewhere(
    model: ConvAutoencoder, path: Path, floor: PatchPCA, val_mse: Sequence[float]
) -> None:
    if find_spec("tensorflow") is None:
        raise ConfigurationError("a SavedModel is written through TensorFlow: install tensorflow")
    arrays = {f"weight_{i}": weight for i, weight in enumerate(model.get_weights())}
    arrays |= {f"floor_{name}": array for name, array in floor._asdict().items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.npz"
        config = json.dumps({**model.get_config(), "precision": "float32"})
        np.savez(file, config=config, val_mse=np.asarray(val_mse, np.float32), **arrays)
        done = subprocess.run(
            [sys.executable, "-m", "keras_ae.export", str(file), str(path)],
            env={
                **os.environ,
                "KERAS_BACKEND": "tensorflow",
                # The GPU is full of what trains there.
                "CUDA_VISIBLE_DEVICES": "-1",
                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
            },
            capture_output=True,
            text=True,
        )
    if done.returncode:
        words = done.stderr.strip().splitlines()[-5:] or [f"exit status {done.returncode}"]
        raise StorageError(f"cannot export {path} through TensorFlow: {' / '.join(words)}")


def _export_file(file: str, path: str) -> None:
    """Exports what `_export_elsewhere` left for the TensorFlow backend."""
    with np.load(file, allow_pickle=False) as arrays:
        model = ConvAutoencoder.from_config(json.loads(str(arrays["config"])))
        count = sum(name.startswith("weight_") for name in arrays.files)
        model.set_weights([arrays[f"weight_{i}"] for i in range(count)])
        floor = PatchPCA(*(arrays[f"floor_{name}"] for name in PatchPCA._fields))
        export(model, Path(path), floor=floor, val_mse=arrays["val_mse"].tolist())


def _write(serving: "_Serving", path: Path) -> None:
    import tensorflow as tf

    model = serving.model
    pixels = tf.TensorSpec((None, None, None, model.channels), tf.uint8, name=c.IMAGES)
    latents = tf.TensorSpec((None, None, None, model.latent_channels), tf.float32, name=c.LATENTS)
    strings = [tf.TensorSpec((None,), tf.string, name=name) for name in (c.IMAGE_BYTES, c.EXAMPLES)]
    archive = keras.export.ExportArchive()
    archive.track(model)
    for name, function, spec in (
        (c.SERVING_DEFAULT, serving.reconstruct_bytes, strings[0]),
        (c.RECONSTRUCT, serving.reconstruct, pixels),
        (c.ENCODE, serving.encode, pixels),
        (c.DECODE, serving.decode, latents),
        (c.SCORE, serving.score, strings[1]),
    ):
        archive.add_endpoint(name, function, input_signature=[spec])
    archive.write_out(str(path), verbose=False)


class _Serving:
    """What each signature computes, in TensorFlow."""

    def __init__(self, model: ConvAutoencoder, floor: PatchPCA, val_mse: np.ndarray):
        self.model, self._floor, self._val_mse = model, floor, val_mse

    def encode(self, images: Any) -> dict[str, Any]:
        return {c.LATENTS: self.model.encode(to_float(images))}

    def decode(self, latents: Any) -> dict[str, Any]:
        return {c.IMAGES: to_uint8(self.model.decode(latents))}

    def reconstruct(self, images: Any) -> dict[str, Any]:
        reconstructions, mse = self._forward(images)
        ssim, _ = metrics.structural(images, reconstructions)
        return {c.RECONSTRUCTIONS: reconstructions, **self._pixel_scores(mse), c.SSIM: ssim}

    def reconstruct_bytes(self, image_bytes: Any) -> dict[str, Any]:
        import tensorflow as tf

        def answer(images: Any) -> dict[str, Any]:
            answers = self.reconstruct(images)
            reconstructions = answers.pop(c.RECONSTRUCTIONS)
            encoded = tf.map_fn(tf.io.encode_png, reconstructions, fn_output_signature=tf.string)
            return {c.RECONSTRUCTION_PNG_BYTES: encoded, **answers}

        blank = {c.RECONSTRUCTION_PNG_BYTES: b"", **_nan(c.MSE, c.PSNR, c.SSIM, c.PERCENTILE)}
        return self._answer_each(image_bytes, answer, blank)

    def score(self, examples: Any) -> dict[str, Any]:
        import tensorflow as tf

        def answer(images: Any) -> dict[str, Any]:
            reconstructions, mse = self._forward(images)
            ssim, ms_ssim = metrics.structural(images, reconstructions)
            linear = to_uint8(reconstruct(to_float(images), self._floor, self.model.stride))
            floor = metrics.psnr_from_mse(metrics.mse(images, linear))
            return {
                **self._pixel_scores(mse),
                c.SSIM: ssim,
                c.MS_SSIM: ms_ssim,
                c.FLOOR_PSNR: floor,
            }

        feature = {c.IMAGE_ENCODED: tf.io.FixedLenFeature((), tf.string, default_value="")}
        encoded = tf.io.parse_example(examples, feature)[c.IMAGE_ENCODED]
        names = (c.MSE, c.PSNR, c.SSIM, c.MS_SSIM, c.FLOOR_PSNR, c.PERCENTILE)
        return self._answer_each(encoded, answer, _nan(*names))

    def _forward(self, images: Any) -> tuple[Any, Any]:
        reconstructions = to_uint8(self.model(to_float(images)))
        return reconstructions, metrics.mse(images, reconstructions)

    def _pixel_scores(self, mse: Any) -> dict[str, Any]:
        import tensorflow as tf

        if len(self._val_mse):
            below = tf.searchsorted(tf.constant(self._val_mse), mse, side="left")
            percentile = tf.cast(below, tf.float32) / len(self._val_mse)
        else:
            percentile = tf.fill(tf.shape(mse), float("nan"))
        return {c.MSE: mse, c.PSNR: metrics.psnr_from_mse(mse), c.PERCENTILE: percentile}

    def _answer_each(self, encoded: Any, answer: Any, blank: dict[str, Any]) -> dict[str, Any]:
        """Answers for every good image, `blank` and a status for every other."""
        import tensorflow as tf

        from keras_ae.datasets.decoding import decode_each

        # ExportArchive traces without autograph.
        decode = tf.autograph.to_graph(decode_each)
        channels = self.model.channels
        pixels, sizes, status = decode(encoded, channels)
        count = tf.shape(encoded)[0]
        together = (
            (count > 0)
            & tf.reduce_all(tf.equal(status, ""))
            & tf.reduce_all(tf.equal(sizes, sizes[:1]))
            & (tf.reduce_sum(tf.reduce_prod(sizes, axis=1)) <= BATCH_PIXELS)
        )
        steps = tf.where(together, 1, count)
        names = sorted(blank)
        blanks = [tf.constant([blank[name]]) for name in names]
        arrays = [
            tf.TensorArray(b.dtype, steps, element_shape=(None,), infer_shape=False) for b in blanks
        ]

        def body(i: Any, arrays: list[Any]) -> tuple[Any, list[Any]]:
            def good() -> list[Any]:
                images = tf.cond(together, pixels.stack, lambda: pixels.read(i)[None])
                answers = answer(tf.ensure_shape(images, (None, None, None, channels)))
                return [tf.ensure_shape(answers[name], (None,)) for name in names]

            values = tf.cond(tf.equal(status[i], ""), good, lambda: blanks)
            return i + 1, [a.write(i, value) for a, value in zip(arrays, values)]

        arrays = tf.while_loop(lambda i, _: i < steps, body, (0, arrays), parallel_iterations=1)[1]
        values = {name: array.concat() for name, array in zip(names, arrays)}
        return {
            name: tf.ensure_shape(value, (None,))
            for name, value in {**values, c.STATUS: status}.items()
        }


def _nan(*names: str) -> dict[str, float]:
    return dict.fromkeys(names, float("nan"))


if __name__ == "__main__":
    _export_file(*sys.argv[1:])
