import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from keras_ae import contract as c
from keras_ae.datasets.images.normalize import decode, normalize
from keras_ae.models import linear
from pipeline.preprocessing import preprocessing_fn
from pipeline.trainer import read_moments


@pytest.mark.parametrize("stride", [8, 16])
def test_transform_sums_what_the_library_sums(photographs, encode, tmp_path, stride):
    images = [photographs[0], photographs[1][:101, :77], photographs[2][:40, :9]]
    encoded = [normalize(encode(image, "PNG"), 3)[0] for image in images]
    spec = {c.IMAGE_ENCODED: tf.io.FixedLenFeature([1], tf.string)}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    rows = [{c.IMAGE_ENCODED: [data]} for data in encoded]
    config = {"channels": 3, "stride": stride}
    with tft_beam.Context(temp_dir=str(tmp_path / "temp")):
        transform = (rows, metadata) | tft_beam.AnalyzeDataset(
            lambda inputs: preprocessing_fn(inputs, config)
        )
        transform | tft_beam.WriteTransformFn(str(tmp_path / "graph"))
    expected = linear.patch_moments([decode(data, 3) for data in encoded], stride)
    assert np.array_equal(read_moments(str(tmp_path / "graph")), expected)
