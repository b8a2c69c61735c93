import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from keras_ae.datasets.sources import base
from keras_ae.datasets.sources.base import Record
from keras_ae.datasets.sources.open import check, open_source
from keras_ae.datasets.sources.parquet import PATH_ONLY, split_of_file
from keras_ae.errors import DataError
from tests.corpus.pictures import encoded

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), np.uint8)
    return encoded(Image.fromarray(pixels), "PNG")


def structs(count: int, first: int = 0) -> pa.Array:
    rows = [{"bytes": png(first + i), "path": f"{i}.png"} for i in range(count)]
    return pa.array(rows, STRUCT)


def write(path: Path, columns: dict, features: dict | None = None, **options) -> str:
    """Writes a table, with the metadata of Hugging Face's datasets if there are features."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if features:
        text = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": text})
    pq.write_table(table, path, **options)
    return str(path)


def read_all(data: str, **options) -> dict[str, Record]:
    source = pickle.loads(pickle.dumps(open_source(data, **options)))
    records = [record for shard in source.shards() for record in source.read(shard)]
    assert len({record.key for record in records}) == len(records)
    return {record.key: record for record in records}


def test_images_and_labels_of_hugging_face(tmp_path):
    path = write(
        tmp_path / "x.parquet",
        {"image": structs(4), "label": [1, 0, -1, None], "sound": structs(4)},
        {
            "image": {"_type": "Image"},
            "label": {"_type": "ClassLabel", "names": ["cat", "dog"]},
            "sound": {"_type": "Audio"},
        },
        row_group_size=2,
    )
    records = read_all(path)
    assert list(records) == [f"x/{i:06d}" for i in range(4)]
    assert [record.data for record in records.values()] == [png(i) for i in range(4)]
    assert [record.label for record in records.values()] == ["dog", "cat", None, None]
    assert {record.split for record in records.values()} == {None}


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("labels", [["a", "b"], [3, 4]])
def test_a_binary_column_without_metadata(tmp_path, kind, labels):
    columns = {"picture": pa.array([png(0), png(1)], kind), "label": labels, "width": [5, 5]}
    records = read_all(write(tmp_path / "x.parquet", columns))
    assert [(r.data, r.label) for r in records.values()] == [
        (png(i), str(labels[i])) for i in range(2)
    ]


def test_one_of_several_columns_is_chosen(tmp_path):
    path = write(tmp_path / "x.parquet", {"a": structs(2), "b": structs(2, 5), "label": [0, 1]})
    with pytest.raises(DataError, match=r"several columns .*: a, b; .*x.parquet:a chooses one"):
        open_source(path).shards()
    assert [r.data for r in read_all(f"{path}:b").values()] == [png(5), png(6)]
    assert [r.data for r in read_all(f"{tmp_path}:b").values()] == [png(5), png(6)]
    with pytest.raises(DataError, match=r"no column 'c'; it has a \(struct"):
        open_source(f"{path}:c").shards()
    with pytest.raises(DataError, match=r"expected a column of encoded .*; got label \(int64\)"):
        open_source(f"{path}:label").shards()


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("train-00000-of-00002-0123456789abcdef.parquet", "train"),
        ("data/validation-00000-of-00001.parquet", "val"),
        ("default/test/0000.parquet", "test"),
        ("train/part-0.parquet", "train"),
        ("Test.parquet", "test"),
        ("trains-00000-of-00002.parquet", None),
        ("0000.parquet", None),
    ],
)
def test_the_split_of_a_file(name, split):
    assert split_of_file(name) == split


def test_a_folder_of_files_keeps_its_splits(tmp_path):
    for i, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test", "extra")):
        write(tmp_path / f"data/{name}.parquet", {"image": structs(3, 3 * i)})
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "LICENSE").write_text("x")
    source = open_source(str(tmp_path))
    assert source.findings().not_read == {
        ".md": 1, "without suffix": 1, "in data/extra.parquet": 3,
    }  # fmt: skip
    records = read_all(str(tmp_path))
    assert Counter(r.split for r in records.values()) == {"train": 6, "test": 3}
    assert records["data/train-00001-of-00002/000002"].data == png(5)
    by_hash = read_all(str(tmp_path), splits="hash")
    assert Counter(r.split for r in by_hash.values()) == {None: 12}


def test_a_lone_split_is_split_by_hash(tmp_path):
    write(tmp_path / "train-00000-of-00001.parquet", {"image": structs(3)})
    assert {record.split for record in read_all(str(tmp_path)).values()} == {None}


def test_a_folder_with_pictures_is_a_folder_of_pictures(tmp_path):
    write(tmp_path / "x.parquet", {"image": structs(3)})
    (tmp_path / "a.png").write_bytes(png(0))
    source = open_source(str(tmp_path))
    assert [name for shard in source.shards() for name in shard] == ["a.png"]
    assert source.findings().not_read == {".parquet": 1}


def test_a_picture_without_suffix_beside_tables_is_read_and_the_table_is_counted(tmp_path):
    write(tmp_path / "x.parquet", {"image": structs(3)})
    (tmp_path / "scan").write_bytes(png(0))
    source = open_source(str(tmp_path))
    assert [name for shard in source.shards() for name in shard] == ["scan"]
    assert source.findings().not_read == {".parquet": 1}


def test_folders_and_tables_can_be_left_out(tmp_path):
    write(tmp_path / "x.parquet", {"image": structs(3)})
    write(tmp_path / "other.parquet", {"image": structs(2)})
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "1.png").write_bytes(png(0))
    source = open_source(str(tmp_path), leave_out=["runs"], exclude=["other*"])
    records = [record for shard in source.shards() for record in source.read(shard)]
    assert [record.key for record in records] == [f"x/00000{i}" for i in range(3)]
    assert source.findings().not_read == {"excluded": 1}


def test_tables_without_images_are_counted_unless_there_are_only_such(tmp_path):
    write(tmp_path / "meta.parquet", {"text": ["a", "b"]})
    with pytest.raises(DataError, match="no images in "):
        open_source(str(tmp_path)).shards()
    write(tmp_path / "x.parquet", {"image": structs(3)})
    source = open_source(str(tmp_path))
    assert sum(len(list(source.read(shard))) for shard in source.shards()) == 3
    assert source.findings().not_read == {".parquet without images": 1}


def test_labels_may_be_a_categorical_of_pandas(tmp_path):
    labels = pa.array(["cat", "dog", "cat"]).dictionary_encode()
    path = write(tmp_path / "x.parquet", {"image": structs(3), "label": labels})
    assert [record.label for record in read_all(path).values()] == ["cat", "dog", "cat"]


def test_rows_without_bytes_are_counted(tmp_path):
    rows = [{"bytes": None, "path": "elsewhere.png"}, None, {"bytes": png(0), "path": None}]
    path = write(tmp_path / "x.parquet", {"image": pa.array(rows, STRUCT)})
    records = list(read_all(path).values())
    assert [record.not_read for record in records] == [PATH_ONLY, PATH_ONLY, ""]


def test_shards_are_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "SHARD_BYTES", 4 * base.IMAGE_OVERHEAD_BYTES)
    for name in ("a", "b"):
        write(tmp_path / f"{name}.parquet", {"image": structs(9)}, row_group_size=2)
    shards = open_source(str(tmp_path)).shards()
    assert [len(shard) for shard in shards] == [2, 2, 2, 2, 2]
    assert len(read_all(str(tmp_path))) == 18


def test_memory_does_not_grow_with_the_row_group(tmp_path):
    rows = [
        {"bytes": bytes([i]) + np.random.default_rng(i).bytes(99_999), "path": ""}
        for i in range(200)
    ]
    path = write(
        tmp_path / "x.parquet",
        {"image": pa.array(rows, STRUCT)},
        use_dictionary=False,
        write_batch_size=8,
    )
    del rows
    source = open_source(path)
    (shard,) = source.shards()
    before = pa.total_allocated_bytes()
    peak, count = 0, 0
    for _ in source.read(shard):
        peak, count = max(peak, pa.total_allocated_bytes() - before), count + 1
    assert count == 200
    assert peak < 12_000_000


def test_the_fingerprint_depends_on_names_and_contents(tmp_path):
    path = write(tmp_path / "x.parquet", {"image": structs(2)})
    fingerprints = {open_source(str(tmp_path)).fingerprint(), open_source(path).fingerprint()}
    assert len(fingerprints) == 1
    write(tmp_path / "x.parquet", {"image": structs(3)})
    fingerprints.add(open_source(path).fingerprint())
    Path(path).rename(tmp_path / "y.parquet")
    fingerprints.add(open_source(str(tmp_path)).fingerprint())
    assert len(fingerprints) == 3


def test_damaged_files_are_refused_with_one_line(tmp_path):
    path = Path(write(tmp_path / "x.parquet", {"image": structs(9)}))
    good = path.read_bytes()
    for data in (b"", b"x" * 99, good[:100], good[:-10], good[:-300] + bytes(292) + good[-8:]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"cannot read .*x.parquet as a .parquet: ") as error:
            open_source(str(path)).shards()
        assert "\n" not in str(error.value)


def test_images_before_the_damage_are_read(tmp_path):
    path = Path(write(tmp_path / "x.parquet", {"image": structs(90)}, row_group_size=30))
    data = bytearray(path.read_bytes())
    middle = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = middle.dictionary_page_offset or middle.data_page_offset
    data[start : start + 300] = b"\xff" * 300
    path.write_bytes(data)
    records = list(read_all(str(path)).values())
    assert [bool(record.fault) for record in records] == [False] * 30 + [True] * 30 + [False] * 30
    assert "as a .parquet" in records[40].fault


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"url": ["a", "b"], "n": [1, 2]}, r"no images in .*; got url \(string\), n \(int64\)"),
        ({}, "got no column"),
        ({"image": structs(0)}, "no rows in"),
        ({"images": pa.array([[]], pa.list_(STRUCT))}, r"got images \(list<"),
    ],
)
def test_a_table_without_images_is_refused(tmp_path, columns, text):
    with pytest.raises(DataError, match=text):
        open_source(write(tmp_path / "x.parquet", columns)).shards()


def test_what_is_no_image_is_quarantined(tmp_path):
    path = write(tmp_path / "x.parquet", {"image": pa.array([b"text", png(0)], pa.binary())})
    assert [record.data for record in read_all(path).values()] == [b"text", png(0)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", "a table: use the folder or archive with the pictures that it names"),
        ("x.tsv", "a table"),
        ("x.json", "a table"),
        ("x.h5", r"np.savez_compressed\('images.npz', x_train=file\['x_train'\]\[:\]\)"),
        ("x.mat", "scipy.io.loadmat"),
        ("x.pkl", "a .pkl, which is never loaded, since it can run code: save the images as an"),
        ("x.tfrecord", "tfds:NAME"),
        ("x.arrow", r"load_from_disk\(FOLDER\).to_parquet"),
        ("x.mp4", "ffmpeg -i"),
        ("x.xyz", r"not a folder, nor an image, nor a file whose name ends in .zip, .*, .parquet$"),
    ],
)
def test_other_files_get_a_message_that_says_what_to_bring(tmp_path, name, text):
    (tmp_path / name).write_bytes(b"some bytes")
    with pytest.raises(DataError, match=text):
        check(str(tmp_path / name))


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["data-00000-of-00001.arrow", "state.json"], r"load_from_disk\(FOLDER\).to_parquet"),
        (["x.npy", "y.npy", "z.csv"], "a .npy is read on its own: --data .*/NAME.npy"),
        (["z.csv"], "not read: 1 .csv$"),
    ],
)
def test_folders_of_other_files_get_a_message(tmp_path, names, text):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=text):
        check(str(tmp_path))
