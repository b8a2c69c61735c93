"""What each signature of the SavedModel computes, in TensorFlow."""

import functools
from collections.abc import Callable
from typing import Any

from keras_ae import contract as c
from keras_ae import metrics
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.models.layers import to_float, to_uint8
from keras_ae.models.linear import PatchPCA, reconstruct_rounded
from keras_ae.saved_model.calibration import Calibration
from keras_ae.saved_model.tiled_metrics import error, measure
from keras_ae.saved_model.tiling import Grid, map_tiles

BATCH_PIXELS = 4_000_000
"""Images of one size are answered together up to this many pixels, else one by one."""
PNG_COMPRESSION = 1
"""zlib's level. A reconstructed photograph of 768x512 takes 27 ms; the default level takes 249,
more than the model does, for 11 % fewer bytes."""


class Signatures:
    """The functions behind the signatures, each traced once.

    Args:
        model: computes in float32.
        floor: PCA with as many latent numbers.
        calibration: of the model.
        tile: most pixels of a side that go through the model at once.

    Attributes:
        functions: a `tf.function` by the name of its signature.
    """

    def __init__(
        self, model: ConvAutoencoder, floor: PatchPCA, calibration: Calibration, tile: int
    ):
        import tensorflow as tf

        self._model, self._floor, self._calibration, self._tile = model, floor, calibration, tile
        pixels = tf.TensorSpec((None, None, None, model.channels), tf.uint8, name=c.IMAGES)
        latents = tf.TensorSpec(
            (None, None, None, model.latent_channels), tf.float32, name=c.LATENTS
        )
        encoded = tf.TensorSpec((None,), tf.string, name=c.IMAGE_BYTES)
        examples = tf.TensorSpec((None,), tf.string, name=c.EXAMPLES)
        # What several call is in the graph once.
        self._encode_part = _traced(lambda images: model.encode(to_float(images)), pixels)
        self._decode_part = _traced(lambda latents: to_uint8(model.decode(latents)), latents)
        self._forward = _traced(self._reconstruction, pixels)
        self._scored = _traced(self._reconstruct, pixels)
        self._decoded = _traced(self._decode_images, encoded)
        self.functions = {
            c.SERVING_DEFAULT: _traced(self._reconstruct_bytes, encoded),
            c.RECONSTRUCT: self._scored,
            c.ENCODE: _traced(lambda images: {c.LATENTS: self._encode(images)}, pixels),
            c.DECODE: _traced(lambda latents: {c.IMAGES: self._decode(latents)}, latents),
            c.SCORE: _traced(self._score, examples),
        }

    def _encode(self, images: Any) -> Any:
        import tensorflow as tf

        stride, (count, height, width) = self._model.stride, _sizes(images)
        return map_tiles(
            self._encode_part,
            images,
            Grid((count, -(-height // stride), -(-width // stride)), self._tile // stride),
            reach=self._model.reach[0],
            inside=stride,
            outside=1,
            depth=self._model.latent_channels,
            dtype=tf.float32,
        )

    def _decode(self, latents: Any) -> Any:
        import tensorflow as tf

        return map_tiles(
            self._decode_part,
            latents,
            Grid(_sizes(latents), self._tile // self._model.stride),
            reach=self._model.reach[1],
            inside=1,
            outside=self._model.stride,
            depth=self._model.channels,
            dtype=tf.uint8,
        )

    def _reconstruction(self, images: Any) -> Any:
        _, height, width = _sizes(images)
        return self._decode(self._encode(images))[:, :height, :width]

    def _reconstruct(self, images: Any) -> dict[str, Any]:
        reconstructions = self._forward(images)
        scores = self._scores(images, reconstructions, for_score=False)
        return {c.RECONSTRUCTIONS: reconstructions, **scores}

    def _reconstruct_bytes(self, image_bytes: Any) -> dict[str, Any]:
        import tensorflow as tf

        def answer(images: Any) -> dict[str, Any]:
            answers = dict(self._scored(images))
            encoded = tf.map_fn(
                lambda image: tf.io.encode_png(image, PNG_COMPRESSION),
                answers.pop(c.RECONSTRUCTIONS),
                fn_output_signature=tf.string,
            )
            return {c.RECONSTRUCTION_PNG_BYTES: encoded, **answers}

        blank = {c.RECONSTRUCTION_PNG_BYTES: b"", **_nan(c.MSE, c.PSNR, c.SSIM, c.PERCENTILE)}
        return self._answer_each(image_bytes, answer, blank)

    def _score(self, examples: Any) -> dict[str, Any]:
        import tensorflow as tf

        def answer(images: Any) -> dict[str, Any]:
            return self._scores(images, self._forward(images), for_score=True)

        feature = {c.IMAGE_ENCODED: tf.io.FixedLenFeature((), tf.string, default_value="")}
        encoded = tf.io.parse_example(examples, feature)[c.IMAGE_ENCODED]
        names = (c.MSE, c.PSNR, c.SSIM, c.MS_SSIM, c.FLOOR_PSNR, c.PERCENTILE)
        return self._answer_each(encoded, answer, _nan(*names))

    def _scores(self, images: Any, others: Any, *, for_score: bool) -> dict[str, Any]:
        scales = len(metrics.SCALE_WEIGHTS) if for_score else 1
        quality = measure(images, others[None], tile=self._tile, scales=scales)
        mse, ssim, ms_ssim = (values[0] for values in quality)
        scores = {
            c.MSE: mse,
            c.PSNR: metrics.psnr_from_mse(mse),
            c.PERCENTILE: self._calibration.percentile(mse),
            c.SSIM: ssim,
        }
        if for_score:
            stride = self._model.stride
            floor = functools.partial(reconstruct_rounded, pca=self._floor, stride=stride)
            floor_mse = error(images, floor, tile=self._tile, stride=stride)
            scores[c.MS_SSIM] = ms_ssim
            scores[c.FLOOR_PSNR] = metrics.psnr_from_mse(floor_mse)
        return scores

    def _decode_images(self, encoded: Any) -> Any:
        """As `decode_each`, with what stands for its TensorArray between functions."""
        pixels, sizes, status = _decode_each()(encoded, self._model.channels)
        return pixels.flow, sizes, status

    def _answer_each(self, encoded: Any, answer: Any, blank: dict[str, Any]) -> dict[str, Any]:
        """Answers for every good image, `blank` and a status for every other."""
        import tensorflow as tf

        channels = self._model.channels
        flow, sizes, status = self._decoded(encoded)
        pixels = tf.TensorArray(tf.uint8, flow=flow, infer_shape=False, clear_after_read=False)
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


def _traced(function: Callable[..., Any], spec: Any) -> Any:
    import tensorflow as tf

    return tf.function(function, input_signature=[spec], autograph=False)


@functools.cache
def _decode_each() -> Callable[..., Any]:
    """`decode_each` for a function that is traced without autograph."""
    import tensorflow as tf

    from keras_ae.datasets.images.decoding import decode_each

    in_a_graph: Callable[..., Any] = tf.autograph.to_graph(decode_each, recursive=False)
    return in_a_graph


def _sizes(tensor: Any) -> tuple[Any, Any, Any]:
    """Images, rows and columns, as tensors."""
    import tensorflow as tf

    return tuple(tf.unstack(tf.shape(tensor)[:3]))


def _nan(*names: str) -> dict[str, float]:
    return dict.fromkeys(names, float("nan"))
