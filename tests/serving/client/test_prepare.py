"""What the client sends of an image, against what ingest stores of it and the graph decodes."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ae.datasets.images.decoding import decode_each
from keras_ae.datasets.images.headers import detect_format
from keras_ae.datasets.images.levels import White
from keras_ae.datasets.images.normalize import decode
from serving.client import formats
from serving.client.cli.originals import read_pixels
from serving.client.prepare import FIRST_PAGE, prepare
from tests.corpus.formats import SAME, WHITE, Sample, samples


@pytest.fixture(scope="module", params=[1, 3])
def served(request):
    """The number of channels, and a function that decodes an image as a server does."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def traced(data):
        pixels, _, status = decode_each(data, request.param, WHITE)
        return pixels.read(0), status[0]

    def decode_raw(data: bytes) -> np.ndarray:
        pixels, status = traced(tf.constant([data]))
        assert status.numpy() == b""
        return pixels.numpy()

    return request.param, decode_raw


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_a_server_decodes_the_pixels_that_ingest_stores(served, sample: Sample):
    channels, decode_raw = served
    sent = prepare(sample.data)
    ingested = decode(sample.data, channels, white=White(WHITE))
    assert np.array_equal(decode_raw(sent.data), ingested)
    assert np.array_equal(read_pixels(sent.data, channels, WHITE), ingested)
    assert (sent.data == sample.data) == (sample.raw == SAME)
    assert sent.note == (FIRST_PAGE if sample.name.startswith("two-pages") else "")
    assert formats.detect_format(sample.data) == detect_format(sample.data)
