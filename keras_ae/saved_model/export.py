"""Exports a trained model as a SavedModel that takes encoded images and returns scores."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ae.datasets.images.levels import FULL_RANGE
from keras_ae.errors import MissingExtraError, StorageError
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.models.linear import PatchPCA
from keras_ae.presets import SERVING_TILE, check_tile


class Exporter:
    """Exports a model repeatedly during its training, and traces its functions only once.

    The SavedModel computes in float32 on TensorFlow, whatever the backend of the training: a model
    of the JAX or PyTorch backend is exported by another Python process with the TensorFlow backend.
    Its reconstructions are within one grey level of the model's own output, or three if the model
    computes in bfloat16.

    Args:
        model: the model to serve.
        floor: PCA with the same latent size, for `floor_psnr`.
        tile: maximum side of what goes through the model at once, in pixels; a multiple of the
            model's stride and of 16. Images with a longer side are computed in overlapping tiles,
            one after the other. This bounds the memory of a request. There are no seams, because
            each tile is computed with everything in its receptive field. At strides 2 and 4, which
            have more positions per pixel, they are a quarter and half as long.
        white: level of 16-bit PNGs that becomes 255, 1 to 65535: that of the training images.

    Raises:
        MissingExtraError: if TensorFlow or tensorflow-serving-api is missing.
        ConfigurationError: if `tile` is invalid.
    """

    def __init__(
        self,
        model: ConvAutoencoder,
        *,
        floor: PatchPCA,
        tile: int = SERVING_TILE,
        white: int = FULL_RANGE,
    ):
        check_tile(tile, model.stride)
        for package in ("tensorflow", "tensorflow_serving"):
            if find_spec(package) is None:
                raise MissingExtraError(
                    f"a SavedModel is written through {package}, which is not installed: install "
                    "keras-ae with its extra tensorflow"
                )
        self.model, self.floor, self.tile, self.white = model, floor, tile, white

    def write(self, path: Path, val_mse: Sequence[float] = ()) -> None:
        """Writes the SavedModel, with the signatures in `keras_ae.contract` and warm-up requests.

        Args:
            path: folder to write; must not exist or be empty.
            val_mse: MSE of each val image, for `percentile`, which is NaN without them.

        Raises:
            StorageError: if the process with the TensorFlow backend fails; the message contains the
                end of its output.
        """
        if keras.backend.backend() != "tensorflow":
            settings = {"tile": self.tile, "white": self.white}
            _export_in_another_process(self.model, path, self.floor, val_mse, settings)
            return
        import tensorflow as tf

        from keras_ae.saved_model.metadata import Metadata, write_metadata
        from keras_ae.saved_model.warmup import write_warmup

        module, served, calibration, latent_files, functions = self._traced
        if served is not self.model:
            served.set_weights(self.model.get_weights())
        calibration.assign(val_mse)
        latent_files.update()
        tf.saved_model.save(module, str(path), signatures=functions)
        write_warmup(self.model, path)
        facts = Metadata(self.white, self.model.stride, self.model.latent_channels)
        write_metadata(facts, str(path))

    @cached_property
    def _traced(self) -> tuple[Any, ConvAutoencoder, Any, Any, dict[str, Any]]:
        import tensorflow as tf

        from keras_ae.saved_model.calibration import Calibration
        from keras_ae.saved_model.signatures import Signatures

        served = self.model
        if served.precision != "float32":
            served = ConvAutoencoder.from_config({**served.get_config(), "precision": "float32"})
        calibration = Calibration()
        signatures = Signatures(served, self.floor, calibration, self.tile, self.white)
        traced = {
            name: function.get_concrete_function()
            for name, function in signatures.functions.items()
        }
        module = tf.Module()
        weights = [variable.value for variable in served.variables]
        # What belongs to the weights changes with them, where models share a graph.
        module.variables_of_the_model = [*weights, *signatures.latent_files.variables]
        module.variables_of_the_calibration = calibration.variables
        return module, served, calibration, signatures.latent_files, traced


def export(
    model: ConvAutoencoder,
    path: Path,
    *,
    floor: PatchPCA,
    val_mse: Sequence[float] = (),
    tile: int = SERVING_TILE,
    white: int = FULL_RANGE,
) -> None:
    """Exports a model once; see `Exporter` and `Exporter.write` for arguments and errors.

    >>> images = [np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)]
    >>> floor = linear.fit(linear.patch_moments(images, stride=8), latent_channels=8)
    >>> model = ConvAutoencoder({"name": "tiny", "architecture": "plain", "widths": [4]})
    >>> export(model, Path("model/1"), floor=floor)
    >>> import tensorflow as tf
    >>> signatures = tf.saved_model.load("model/1").signatures
    >>> outputs = signatures["reconstruct"](tf.constant(images, tf.uint8))
    >>> tuple(outputs["reconstructions"].shape), outputs["psnr"].dtype.name
    ((1, 64, 64, 3), 'float32')
    """
    Exporter(model, floor=floor, tile=tile, white=white).write(path, val_mse)


def _export_in_another_process(
    model: ConvAutoencoder,
    path: Path,
    floor: PatchPCA,
    val_mse: Sequence[float],
    settings: dict[str, int],
) -> None:
    """Exports a model of another backend in a process with the TensorFlow backend."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_weights(Path(folder, "model.weights.h5"))
        linear.save(floor, Path(folder, "floor.npz"))
        errors = np.asarray(val_mse, np.float32).tolist()
        arguments = {"config": model.get_config(), "val_mse": errors, **settings}
        process = subprocess.run(
            [sys.executable, "-m", "keras_ae.saved_model.export", folder, str(path)],
            input=json.dumps(arguments),
            env={
                **os.environ,
                "KERAS_BACKEND": "tensorflow",
                # The training has taken the memory of the GPU.
                "CUDA_VISIBLE_DEVICES": "-1",
                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
            },
            capture_output=True,
            text=True,
        )
    if process.returncode:
        output = process.stderr.strip().splitlines()[-5:]
        output = output or [f"exit status {process.returncode}"]
        raise StorageError(f"cannot export {path} with TensorFlow: {' / '.join(output)}")


def _export_saved(folder: Path, path: Path, config: dict[str, Any], **settings: Any) -> None:
    """Exports what `_export_in_another_process` saved in a folder."""
    model = ConvAutoencoder.from_config(config)
    model.load_weights(folder / "model.weights.h5")
    export(model, path, floor=linear.load(folder / "floor.npz"), **settings)


if __name__ == "__main__":
    _export_saved(Path(sys.argv[1]), Path(sys.argv[2]), **json.load(sys.stdin))
