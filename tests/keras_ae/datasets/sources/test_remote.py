"""Sources at URIs of a fake bucket."""

import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from keras_ae import storage
from keras_ae.datasets.images.png import encode_png
from keras_ae.datasets.sources.base import Record
from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import DataError
from tests.gcs import FORBIDDEN

NAMES = ("a.png", "cats/b.jpg", "cats/deep/c d.webp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of three files with names of images and two others, and archives of it."""
    folder = tmp_path_factory.mktemp("remote")
    for i, name in enumerate((*NAMES, ".hidden/e.png", "readme.txt")):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([i]) * 1000 * i)
    files = sorted(path for path in (folder / "images").rglob("*") if path.is_file())
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for file in files:
            archive.write(file, file.relative_to(folder / "images"))
    for kind in ("", ".gz"):
        with tarfile.open(folder / f"images.tar{kind}", f"w:{kind[1:]}") as archive:
            for file in files:
                archive.add(file, file.relative_to(folder / "images"))
    return folder


@pytest.mark.parametrize("name", ["images", "images.zip", "images.tar", "images.tar.gz"])
def test_a_uri_gives_the_images_of_the_folder(bucket, folder, name):
    uri = f"{bucket.put(folder, 'sources')}/{name}"
    source = pickle.loads(pickle.dumps(open_source(uri)))
    records = [record for shard in source.shards() for record in source.read(shard)]
    assert sorted(record.key for record in records) == sorted(NAMES)
    for record in records:
        assert record.data == (folder / "images" / record.key).read_bytes()
        assert not record.fault


def records_of(data: str) -> list[Record]:
    source = pickle.loads(pickle.dumps(open_source(data)))
    return [record for shard in source.shards() for record in source.read(shard)]


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """Arrays and tables of images, and a folder of tables."""
    folder = tmp_path_factory.mktemp("tables")
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 6, 3), np.uint8)
    splits = {"x_train": images[:30], "y_train": np.arange(30), "x_test": images[30:]}
    np.save(folder / "x.npy", images)
    np.savez(folder / "x.npz", **splits)
    np.savez_compressed(folder / "compressed.npz", **splits)
    for name in ("x", "shards/train-00000-of-00002", "shards/train-00001-of-00002", "shards/test"):
        path = folder / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        rows = [encode_png(image + np.uint8(len(name))) for image in images]
        pq.write_table(pa.table({"image": rows, "label": range(40)}), path, row_group_size=16)
    return folder


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "compressed.npz", "x.parquet", "shards"])
def test_arrays_and_tables_in_a_bucket_give_the_images_of_the_files(bucket, tables, name):
    uri = f"{bucket.put(tables, 'tables')}/{name}"
    records = records_of(uri)
    assert records == records_of(f"{tables}/{name}")
    assert len(records) == (120 if name == "shards" else 40)
    assert not any(record.fault or record.not_read for record in records)
    splits = {"train", "test"} if name in ("x.npz", "compressed.npz", "shards") else {None}
    assert {record.split for record in records} == splits
    assert open_source(uri).fingerprint() == open_source(uri).fingerprint()


@pytest.mark.parametrize("name", ["x.npz", "compressed.npz", "x.parquet", "shards/test.parquet"])
def test_truncated_arrays_and_tables_in_a_bucket_are_refused_with_one_line(bucket, tables, name):
    data = (tables / name).read_bytes()
    bucket.write(f"truncated/{name}", data[: len(data) // 2])
    folder = f"{bucket.uri}/truncated"
    uri = f"{folder}/shards" if name.startswith("shards") else f"{folder}/{name}"
    with pytest.raises(DataError, match=f"cannot read {folder}/{name} as a ") as caught:
        open_source(uri).shards()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["images", "images.zip"])
def test_the_fingerprint_changes_with_the_objects(bucket, folder, name):
    uri = f"{bucket.put(folder, f'changing-{name}')}/{name}"
    first = open_source(uri).fingerprint()
    assert open_source(uri).fingerprint() == first
    changed = f"{uri}/a.png" if name == "images" else uri
    # TensorFlow caches the status of an object for some seconds unless it writes the object itself.
    with tf.io.gfile.GFile(changed, "ab") as file:
        file.write(b"more")
    assert open_source(uri).fingerprint() != first


def test_a_fingerprint_reads_no_image(bucket, folder, monkeypatch):
    uri = f"{bucket.put(folder, 'unread')}/images"
    monkeypatch.setattr(storage, "read_file", None)
    monkeypatch.setattr(storage, "open_file", None)
    assert len(open_source(uri).fingerprint()) == 64


def test_an_object_that_vanishes_is_a_record_with_a_fault(bucket, folder):
    uri = f"{bucket.put(folder, 'vanishing')}/images"
    source = open_source(uri)
    (record,) = source.read(("missing.png",))
    assert record.fault.startswith(f"cannot read {uri}/missing.png: ")


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("gs://no-such-bucket/images", "no such folder or archive: gs://no-such-bucket/images"),
        (f"gs://{FORBIDDEN}/images", f"cannot read gs://{FORBIDDEN}/images: "),
        ("s3://bucket/images", "no filesystem for s3:// here, only for file://, gs://"),
    ],
)
def test_an_unreadable_uri_is_reported_on_one_line(bucket, uri, text):
    with pytest.raises(DataError, match=text) as caught:
        open_source(uri)
    assert "\n" not in str(caught.value)


def test_an_invalid_archive_is_reported(bucket):
    for name, kind in (("bad.zip", "zip"), ("bad.tar", "tar")):
        bucket.write(f"bad/{name}", b"text")
        with pytest.raises(DataError, match=f"bad/{name} as a {kind}"):
            open_source(f"{bucket.uri}/bad/{name}").shards()


def test_a_whole_bucket_is_a_folder(bucket):
    bucket.write("whole/bucket/a.png", b"text")
    for uri in (bucket.uri, f"{bucket.uri}/"):
        source = open_source(uri)
        assert "whole/bucket/a.png" in {name for shard in source.shards() for name in shard}
        assert [record.data for record in source.read(("whole/bucket/a.png",))] == [b"text"]
