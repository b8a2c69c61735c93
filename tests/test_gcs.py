"""The bucket of `tests.gcs`: TensorFlow, Beam and Google's client read and write the same one."""

import os

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from google.cloud import storage

from tests.gcs import FORBIDDEN

gfile = tf.io.gfile


def _write(uri: str, content: bytes) -> None:
    with gfile.GFile(uri, "wb") as file:
        file.write(content)


def _read(uri: str) -> bytes:
    with gfile.GFile(uri, "rb") as file:
        return bytes(file.read())


@pytest.mark.parametrize("content", [b"", b"hello", os.urandom(3_000_000)])
def test_tensorflow_reads_what_it_wrote(bucket, content):
    _write(f"{bucket.uri}/kinds/{len(content)} bytes", content)
    assert _read(f"{bucket.uri}/kinds/{len(content)} bytes") == content
    assert gfile.stat(f"{bucket.uri}/kinds/{len(content)} bytes").length == len(content)
    assert bucket.read(f"kinds/{len(content)} bytes") == content


def test_tensorflow_lists_moves_and_removes(bucket):
    root = f"{bucket.uri}/moved"
    for name in ("a/one.txt", "a/two.txt", "a/b/three.bin"):
        _write(f"{root}/{name}", name.encode())
    assert gfile.glob(f"{root}/a/*.txt") == [f"{root}/a/one.txt", f"{root}/a/two.txt"]
    assert [files for _, _, files in gfile.walk(f"{root}/a")] == [
        ["one.txt", "two.txt"],
        ["three.bin"],
    ]
    gfile.copy(f"{root}/a/one.txt", f"{root}/c/copy.txt")
    gfile.rename(f"{root}/a", f"{root}/d")
    assert bucket.names("moved/") == [
        "moved/c/copy.txt",
        "moved/d/b/three.bin",
        "moved/d/one.txt",
        "moved/d/two.txt",
    ]
    gfile.rmtree(f"{root}/d")
    assert bucket.names("moved/") == ["moved/c/copy.txt"]


def test_tensorflow_gets_errors_for_a_forbidden_and_a_missing_bucket(bucket):
    with pytest.raises(tf.errors.PermissionDeniedError):
        _read(f"gs://{FORBIDDEN}/file")
    with pytest.raises(tf.errors.NotFoundError):
        gfile.listdir("gs://no-such-bucket/")


def test_a_saved_model_is_saved_and_loaded(bucket):
    module = tf.Module()
    module.three = tf.Variable(3.0)
    module.triple = tf.function(
        lambda x: x * module.three, input_signature=[tf.TensorSpec((), tf.float32)]
    )
    tf.saved_model.save(module, f"{bucket.uri}/model")
    loaded = tf.saved_model.load(f"{bucket.uri}/model")
    assert loaded.triple(2.0).numpy() == 6


def test_beam_writes_what_tensorflow_and_google_read(bucket):
    options = PipelineOptions(["--direct_running_mode=in_memory"])
    pattern = f"{bucket.uri}/beam/*.gz"
    with beam.Pipeline(options=options) as pipeline:
        prefix = pattern.replace("*.gz", "part")
        numbers = pipeline | beam.Create([b"1", b"2", b"3"])
        _ = numbers | beam.io.WriteToTFRecord(prefix, file_name_suffix=".gz", num_shards=2)
    records = tf.data.TFRecordDataset(gfile.glob(pattern), compression_type="GZIP")
    assert sorted(records.as_numpy_iterator()) == [b"1", b"2", b"3"]
    with beam.Pipeline(options=options) as pipeline:
        total = pipeline | beam.io.ReadFromTFRecord(pattern) | beam.Map(int)
        _ = total | beam.CombineGlobally(sum) | beam.Map(str) | beam.io.WriteToText(f"{pattern}sum")
    (name,) = [blob.name for blob in storage.Client().list_blobs(bucket.name, prefix="beam/*")]
    assert bucket.read(name) == b"6\n"
