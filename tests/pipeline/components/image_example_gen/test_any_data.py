"""Arrays, tables and single pictures, from end to end."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from keras_ae import contract as c
from keras_ae.datasets.images import png as png_module
from keras_ae.datasets.images.normalize import decode
from keras_ae.errors import DataError
from pipeline.runtime import ingested
from tests.corpus.pictures import encoded
from tests.pipeline.components.image_example_gen.test_any_files import (
    counts_of,
    lines_of,
    picture,
    sources_of,
    write,
)
from tests.pipeline.components.image_example_gen.test_executor import (
    examples_of,
    ingest,
    slices_of,
)


def pictures(count: int, first: int = 0) -> np.ndarray:
    """Different pictures, uint8 [count, 32, 32, 3]."""
    return np.stack([np.asarray(picture(first + i, 32, 32)) for i in range(count)])


def png(image: Image.Image) -> bytes:
    return encoded(image, "PNG")


def pixels_of(artifact) -> dict[str, np.ndarray]:
    return {
        example[c.IMAGE_SOURCE].decode(): decode(example[c.IMAGE_ENCODED], 3)
        for examples in examples_of(artifact).values()
        for example in examples
    }


@pytest.mark.parametrize("kind", ["uint8", "floats"])
def test_an_array_is_split_by_hash(tmp_path, kind):
    images = pictures(30)
    np.save(tmp_path / "x.npy", images if kind == "uint8" else (images / 255).astype(np.float32))
    artifact = ingest(tmp_path / "x.npy", tmp_path / "out")
    stored = pixels_of(artifact)
    assert sorted(stored) == [f"x/{i:06d}" for i in range(30)]
    assert all(np.array_equal(stored[f"x/{i:06d}"], image) for i, image in enumerate(images))
    assert lines_of(artifact)[0].startswith("splits: by hash of the content: train (")


def test_arrays_of_splits_are_kept_with_their_labels(tmp_path):
    splits = {"train": pictures(12), "test": pictures(5, 50)}
    arrays = {f"x_{split}": images for split, images in splits.items()}
    arrays |= {f"y_{split}": np.arange(len(images)) % 2 for split, images in splits.items()}
    np.savez_compressed(tmp_path / "data.npz", **arrays, extra=pictures(3))
    artifact = ingest(tmp_path / "data.npz", tmp_path / "out")
    sources = sources_of(artifact)
    assert sources["test"] == [f"x_test/{i:06d}" for i in range(5)]
    assert len(sources["train"]) + len(sources["val"]) == 12
    assert slices_of(artifact)["x_test/000003"]["label"] == "1"
    count = len(sources["train"])
    assert lines_of(artifact) == [
        f"splits: those of the data: train ({count}), test (5); val ({12 - count}) by hash from "
        "train",
        "not read: 3 in extra",
    ]


def test_floats_beyond_1_are_refused_with_their_range(tmp_path):
    np.save(tmp_path / "x.npy", pictures(12).astype(np.float32))
    with pytest.raises(
        DataError, match=r"levels from \d+ to \d+, expected 0 to 1: .*--white LEVEL"
    ):
        ingest(tmp_path / "x.npy", tmp_path / "out")
    artifact = ingest(tmp_path / "x.npy", tmp_path / "out-2", fingerprint="", white=255.0)
    assert counts_of(artifact)["quarantined"] == 0
    assert np.array_equal(pixels_of(artifact)["x/000000"], pictures(1)[0])


def test_a_folder_of_parquet_files_keeps_splits_and_names_of_labels(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    features = {
        "img": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": ["cat", "dog"]},
    }
    for first, (split, count) in enumerate({"train": 20, "validation": 4, "test": 5}.items()):
        rows = [{"bytes": png(picture(100 * first + i)), "path": None} for i in range(count)]
        rows[0] = {"bytes": None, "path": "elsewhere.png"}
        table = pa.table({"img": rows, "label": [i % 2 for i in range(count)]})
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        pq.write_table(
            table.replace_schema_metadata(metadata),
            data / f"{split}-00000-of-00001.parquet",
            row_group_size=7,
        )
    artifact = ingest(data, tmp_path / "out")
    assert counts_of(artifact) == {"train": 19, "val": 3, "test": 4, "quarantined": 0}
    assert lines_of(artifact) == [
        "splits: those of the data: train (19), val (3), test (4)",
        "not read: 3 rows without the bytes of an image",
    ]
    slices = slices_of(artifact)["train-00000-of-00001/000009"]
    assert (slices["label"], slices["source"]) == ("dog", c.NO_SLICE)
    stored = pixels_of(artifact)["test-00000-of-00001/000003"]
    assert np.array_equal(stored, np.asarray(picture(203)))


@pytest.mark.parametrize("kind", ["picture", "folder"])
def test_a_single_picture_gives_all_splits(tmp_path, kind):
    data = write(tmp_path / "photos", ["photo.png"]) / "photo.png"
    picture(7, 320, 256).save(data)
    artifact = ingest(data if kind == "picture" else data.parent, tmp_path / "out")
    counts = counts_of(artifact)
    assert sum(counts.values()) == 20
    assert all(counts[split] for split in c.SPLITS)
    stored = pixels_of(artifact)
    assert np.array_equal(
        stored["photo.png#64,128"], np.asarray(picture(7, 320, 256))[64:128, 128:192]
    )
    (note,) = ingested.read(artifact.uri).notes
    assert note.startswith("photo.png is cut into 20 blocks of 64x64 pixels: train and test come")
    (line,) = lines_of(artifact)
    assert line.startswith("splits: by hash of the content: train (")
    assert line.endswith(f"; {note}")


def test_the_version_of_zlib_does_not_change_the_splits(tmp_path, monkeypatch):
    """Of images that are encoded when they are read."""
    data = write(tmp_path / "photos", ["photo.png"]) / "photo.png"
    picture(7, 320, 256).save(data)
    np.save(tmp_path / "x.npy", pictures(30))
    for number, source in enumerate((data, tmp_path / "x.npy")):
        monkeypatch.setattr(png_module, "_LEVEL", 1)
        first = ingest(source, tmp_path / f"out-{number}")
        monkeypatch.setattr(png_module, "_LEVEL", 9)
        assert sources_of(ingest(source, tmp_path / f"again-{number}")) == sources_of(first)


def test_one_good_picture_among_bad_ones_stops_the_run(tmp_path):
    data = write(tmp_path / "photos", ["a.png"])
    for name in ("b.png", "c.png"):
        (data / name).write_bytes(b"no image")
    with pytest.raises(DataError, match="at least three different good images are needed"):
        ingest(data, tmp_path / "out")
