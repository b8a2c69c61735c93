"""Warm-up requests, which a server runs before it serves a version of the model."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ae import contract as c
from keras_ae.models.autoencoder import ConvAutoencoder

MODEL_NAME = "keras_ae"
IMAGE_SIDE = 64
BATCH_SIZES = (1, 32)


def write_warmup(model: ConvAutoencoder, path: Path) -> None:
    """Writes requests for every signature into a SavedModel's folder; always the same bytes.

    The file is a TFRecord file of `PredictionLog` messages, in small and typical shapes: a server
    prepares its computations and allocates memory by shape, so the content does not matter.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    file = path / c.WARMUP_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for signature, name, value in _requests(model):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = MODEL_NAME
            request.model_spec.signature_name = signature
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString(deterministic=True))


def _requests(model: ConvAutoencoder) -> list[tuple[str, str, Any]]:
    """Returns signature, name of the input and value of each request."""
    requests: list[tuple[str, str, Any]] = []
    for batch_size in BATCH_SIZES:
        shape = (batch_size, IMAGE_SIDE, IMAGE_SIDE, model.channels)
        images = np.broadcast_to(np.arange(IMAGE_SIDE, dtype=np.uint8)[:, None, None], shape)
        latent_side = -(-IMAGE_SIDE // model.stride)
        latents = np.zeros(
            (batch_size, latent_side, latent_side, model.latent_channels), np.float32
        )
        requests += [
            (c.RECONSTRUCT, c.IMAGES, images),
            (c.ENCODE, c.IMAGES, images),
            (c.DECODE, c.LATENTS, latents),
        ]
    encoded = tf.io.encode_png(images[0]).numpy()
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    features = tf.train.Features(feature={c.IMAGE_ENCODED: feature})
    example = tf.train.Example(features=features).SerializeToString(deterministic=True)
    return [
        *requests,
        (c.SERVING_DEFAULT, c.IMAGE_BYTES, [encoded]),
        (c.SCORE, c.EXAMPLES, [example]),
    ]
