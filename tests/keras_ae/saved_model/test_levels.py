"""A SavedModel scales 16-bit PNGs as ingest has scaled those that the model was trained on."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ae import contract as c
from keras_ae.datasets.images.levels import White
from keras_ae.datasets.images.normalize import normalize
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.saved_model.export import export
from keras_ae.saved_model.metadata import Metadata, read_metadata
from tests.corpus.formats import WHITE, rgba
from tests.tiny import TILE, TINY


@pytest.fixture(scope="module")
def path(tmp_path_factory, photographs):
    """A SavedModel for 12 bits in 16-bit files."""
    path = tmp_path_factory.mktemp("model") / "1"
    model = ConvAutoencoder(TINY, 3)
    floor = linear.fit(linear.patch_moments(photographs, 8), 8)
    linear.set_linear_path(model, floor)
    export(model, path, floor=floor, tile=TILE, white=WHITE)
    return path


def test_the_level_of_white_is_in_its_metadata(path, tmp_path):
    assert read_metadata(str(path)) == Metadata(WHITE)
    assert read_metadata(str(tmp_path)) == Metadata(65535)


def test_a_16_bit_file_has_the_scores_of_what_ingest_stores(path, photographs):
    deep = photographs[0][:64, :64].astype(np.uint16) * 16
    file = tf.io.encode_png(deep).numpy()
    stored, _ = normalize(file, 3, white=White(WHITE))
    signatures = tf.saved_model.load(str(path)).signatures
    outputs = signatures[c.SERVING_DEFAULT](tf.constant([file, stored]))
    first, second = outputs[c.RECONSTRUCTION_PNG_BYTES].numpy()
    assert first == second
    pixels = np.asarray(Image.open(io.BytesIO(first))).astype(int)
    assert np.abs(pixels - deep * (255 / WHITE)).mean() < 10
    examples = [_example(data) for data in (file, stored)]
    scores = signatures[c.SCORE](tf.constant(examples))
    for name in (c.PSNR, c.SSIM, c.FLOOR_PSNR):
        values = scores[name].numpy()
        assert values[0] == values[1]


def test_an_animation_and_transparency_are_served(path):
    buffer = io.BytesIO()
    frames = [rgba().rotate(90 * i) for i in range(3)]
    frames[0].save(buffer, "WEBP", lossless=True, save_all=True, append_images=frames[1:])
    files = [buffer.getvalue(), normalize(buffer.getvalue(), 3)[0]]
    signatures = tf.saved_model.load(str(path)).signatures
    outputs = signatures[c.SERVING_DEFAULT](tf.constant(files))
    assert outputs[c.STATUS].numpy().tolist() == [b"", b""]
    assert len(set(outputs[c.RECONSTRUCTION_PNG_BYTES].numpy())) == 1


def _example(data: bytes) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
    features = tf.train.Features(feature={c.IMAGE_ENCODED: feature})
    return tf.train.Example(features=features).SerializeToString()
