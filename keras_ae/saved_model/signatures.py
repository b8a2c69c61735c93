"""The signatures of the SavedModel as TensorFlow functions."""

import functools
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_ae import contract as c
from keras_ae import metrics
from keras_ae.datasets.images.decoding import decode_each
from keras_ae.datasets.images.levels import FULL_RANGE
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.models.layers import to_float, to_uint8
from keras_ae.models.linear import PatchPCA, reconstruct_rounded
from keras_ae.presets import STRIDE
from keras_ae.saved_model.calibration import Calibration
from keras_ae.saved_model.latent_files import LatentFiles
from keras_ae.saved_model.tiled_metrics import measure_quality, patch_mse
from keras_ae.saved_model.tiling import Grid, map_tiles, sizes_of

BATCH_PIXELS = 4_000_000
"""Maximum of pixels of images of one size that are computed as one batch; else one by one."""
PNG_COMPRESSION = 1
"""Level of zlib. Encoding a reconstructed photograph of 768x512 takes 27 ms. With the default level
it takes 249 ms, more than the model, for 11 % fewer bytes."""


class Signatures:
    """Creates the functions of the signatures, each of which is traced once.

    Args:
        model: a model that computes in float32.
        floor, tile: as for `keras_ae.saved_model.export.Exporter`.
        calibration: errors of the model on the val images.
        white: level of 16-bit PNGs that becomes 255.

    Attributes:
        functions: `tf.function`s by the name of the signature.
        latent_files: outputs for files of latents, to update after the weights were set.
    """

    def __init__(
        self,
        model: ConvAutoencoder,
        floor: PatchPCA,
        calibration: Calibration,
        tile: int,
        white: int = FULL_RANGE,
    ):
        self._model, self._floor, self._calibration, self._tile = model, floor, calibration, tile
        self._white, self.latent_files = white, LatentFiles(model, floor)
        # A tile has no more positions at a smaller stride, so that it needs no more memory.
        self._positions = tile // max(model.stride, STRIDE)
        pixels = tf.TensorSpec((None, None, None, model.channels), tf.uint8, name=c.IMAGES)
        latents = tf.TensorSpec(
            (None, None, None, model.latent_channels), tf.float32, name=c.LATENTS
        )
        encoded, examples = (
            tf.TensorSpec((None,), tf.string, name=name) for name in (c.IMAGE_BYTES, c.EXAMPLES)
        )
        # Traced separately, so that the graph contains each of them only once.
        self._encode_tile = _traced(lambda images: model.encode(to_float(images)), pixels)
        self._decode_tile = _traced(lambda latents: to_uint8(model.decode(latents)), latents)
        self._traced_reconstruction = _traced(self._reconstruction, pixels)
        self._traced_reconstruct = _traced(self._reconstruct, pixels)
        self._traced_decode_images = _traced(self._decode_images, encoded)
        self.functions = {
            c.SERVING_DEFAULT: _traced(self._reconstruct_bytes, encoded),
            c.RECONSTRUCT: self._traced_reconstruct,
            c.ENCODE: _traced(self._encode_to_file, pixels),
            c.DECODE: _traced(self._decode_from_file, latents),
            c.SCORE: _traced(self._score, examples),
        }

    def _encode(self, images: Any) -> Any:
        stride, (count, height, width) = self._model.stride, sizes_of(images)
        return map_tiles(
            self._encode_tile,
            images,
            Grid((count, -(-height // stride), -(-width // stride)), self._positions),
            radius=self._model.receptive_radius[0],
            input_scale=stride,
            output_scale=1,
            depth=self._model.latent_channels,
            dtype=tf.float32,
        )

    def _decode(self, latents: Any) -> Any:
        return map_tiles(
            self._decode_tile,
            latents,
            Grid(sizes_of(latents), self._positions),
            radius=self._model.receptive_radius[1],
            input_scale=1,
            output_scale=self._model.stride,
            depth=self._model.channels,
            dtype=tf.uint8,
        )

    def _encode_to_file(self, images: Any) -> dict[str, Any]:
        ids, steps = self.latent_files.ids(images), self.latent_files.steps(images)
        return {c.LATENTS: self._encode(images), c.STEPS: steps, c.MODEL_ID: ids}

    def _decode_from_file(self, latents: Any) -> dict[str, Any]:
        return {c.IMAGES: self._decode(latents), c.MODEL_ID: self.latent_files.ids(latents)}

    def _reconstruction(self, images: Any) -> Any:
        _, height, width = sizes_of(images)
        return self._decode(self._encode(images))[:, :height, :width]

    def _reconstruct(self, images: Any) -> dict[str, Any]:
        reconstructions = self._traced_reconstruction(images)
        scores = self._scores(images, reconstructions, for_score=False)
        return {c.RECONSTRUCTIONS: reconstructions, **scores}

    def _reconstruct_bytes(self, image_bytes: Any) -> dict[str, Any]:
        def compute(images: Any) -> dict[str, Any]:
            outputs = dict(self._traced_reconstruct(images))
            encoded = tf.map_fn(
                lambda image: tf.io.encode_png(image, PNG_COMPRESSION),
                outputs.pop(c.RECONSTRUCTIONS),
                fn_output_signature=tf.string,
            )
            return {c.RECONSTRUCTION_PNG_BYTES: encoded, **outputs}

        names = (c.MSE, c.PSNR, c.SSIM, c.PERCENTILE)
        defaults = {c.RECONSTRUCTION_PNG_BYTES: b"", **dict.fromkeys(names, math.nan)}
        return self._map_images(image_bytes, compute, defaults)

    def _score(self, examples: Any) -> dict[str, Any]:
        def compute(images: Any) -> dict[str, Any]:
            return self._scores(images, self._traced_reconstruction(images), for_score=True)

        feature = {c.IMAGE_ENCODED: tf.io.FixedLenFeature((), tf.string, default_value="")}
        encoded = tf.io.parse_example(examples, feature)[c.IMAGE_ENCODED]
        names = (c.MSE, c.PSNR, c.SSIM, c.MS_SSIM, c.FLOOR_PSNR, c.PERCENTILE)
        return self._map_images(encoded, compute, dict.fromkeys(names, math.nan))

    def _scores(self, images: Any, reconstructions: Any, *, for_score: bool) -> dict[str, Any]:
        scales = len(metrics.SCALE_WEIGHTS) if for_score else 1
        quality = measure_quality(images, reconstructions[None], tile=self._tile, scales=scales)
        mse, ssim, ms_ssim = (values[0] for values in quality)
        scores = {
            c.MSE: mse,
            c.PSNR: metrics.psnr_from_mse(mse),
            c.PERCENTILE: self._calibration.percentile(mse),
            c.SSIM: ssim,
            c.VAL_IMAGES: self._calibration.val_images(tf.shape(mse)[0]),
        }
        if for_score:
            stride = self._model.stride
            reconstruct = functools.partial(reconstruct_rounded, pca=self._floor, stride=stride)
            floor_mse = patch_mse(images, reconstruct, tile=self._tile, stride=stride)
            scores[c.MS_SSIM] = ms_ssim
            scores[c.FLOOR_PSNR] = metrics.psnr_from_mse(floor_mse)
        return scores

    def _decode_images(self, encoded: Any) -> Any:
        """Like `decode_each`, with the flow of its TensorArray, which cannot be returned itself."""
        pixels, sizes, status = _decode_each()(encoded, self._model.channels, self._white)
        return pixels.flow, sizes, status

    def _map_images(
        self, encoded: Any, compute: Callable[[Any], Any], defaults: dict[str, Any]
    ) -> dict[str, Any]:
        """Computes the outputs for each good image; a bad one gets `defaults` and a status.

        If all images are good, have one size and are not too large, they are one batch.
        """
        channels = self._model.channels
        flow, sizes, status = self._traced_decode_images(encoded)
        pixels = tf.TensorArray(tf.uint8, flow=flow, infer_shape=False, clear_after_read=False)
        count = tf.shape(encoded)[0]
        one_batch = (
            (count > 0)
            & tf.reduce_all(tf.equal(status, ""))
            & tf.reduce_all(tf.equal(sizes, sizes[:1]))
            & (tf.reduce_sum(tf.reduce_prod(sizes, axis=1)) <= BATCH_PIXELS)
        )
        steps = tf.where(one_batch, 1, count)
        names = sorted(defaults)
        default_values = [tf.constant([defaults[name]]) for name in names]
        arrays = [
            tf.TensorArray(v.dtype, steps, element_shape=(None,), infer_shape=False)
            for v in default_values
        ]

        def body(i: Any, arrays: list[Any]) -> tuple[Any, list[Any]]:
            def outputs_of_good_image() -> list[Any]:
                images = tf.cond(one_batch, pixels.stack, lambda: pixels.read(i)[None])
                outputs = compute(tf.ensure_shape(images, (None, None, None, channels)))
                return [tf.ensure_shape(outputs[name], (None,)) for name in names]

            values = tf.cond(tf.equal(status[i], ""), outputs_of_good_image, lambda: default_values)
            return i + 1, [a.write(i, value) for a, value in zip(arrays, values)]

        arrays = tf.while_loop(lambda i, _: i < steps, body, (0, arrays), parallel_iterations=1)[1]
        values = {name: array.concat() for name, array in zip(names, arrays)}
        values |= {c.STATUS: status, c.VAL_IMAGES: self._calibration.val_images(count)}
        return {name: tf.ensure_shape(value, (None,)) for name, value in values.items()}


def _traced(function: Callable[..., Any], spec: Any) -> Any:
    return tf.function(function, input_signature=[spec], autograph=False)


@functools.cache
def _decode_each() -> Callable[..., Any]:
    """Returns `decode_each` converted by autograph, which the signatures are traced without."""
    converted: Callable[..., Any] = tf.autograph.to_graph(decode_each, recursive=False)
    return converted
