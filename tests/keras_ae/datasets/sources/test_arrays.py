import io
import pickle
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_ae.datasets.images.normalize import decode
from keras_ae.datasets.sources import arrays, base
from keras_ae.datasets.sources.base import Record
from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import DataError


def levels(count: int, *shape: int, dtype=np.uint8) -> np.ndarray:
    """Different images."""
    return np.random.default_rng(count).integers(0, 256, (count, *shape)).astype(dtype)


def save(folder, name: str, *arrays, **named) -> str:
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, arrays[0], allow_pickle=True)
    else:
        save_all = np.savez_compressed if "compressed" in name else np.savez
        save_all(path, *arrays, **named)
    return str(path)


def read_all(data: str, **options) -> dict[str, Record]:
    source = pickle.loads(pickle.dumps(open_source(data, **options)))
    records = [record for shard in source.shards() for record in source.read(shard)]
    assert len({record.key for record in records}) == len(records)
    return {record.key: record for record in records}


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "compressed.npz"])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 3), (6, 5, 4)])
def test_images_have_the_levels_of_the_array(tmp_path, name, shape):
    images = levels(4, *shape)
    records = read_all(save(tmp_path, name, images))
    stem = "x" if name == "x.npy" else "arr_0"
    assert list(records) == [f"{stem}/{i:06d}" for i in range(4)]
    for image, record in zip(images, records.values()):
        assert (record.fault, record.split, record.label) == ("", None, None)
        channels = shape[-1] if len(shape) == 3 else 1
        decoded = tf.io.decode_png(record.data, channels).numpy()
        assert np.array_equal(decoded, image.reshape(decoded.shape))


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bits_stay_16_bits(tmp_path, dtype):
    images = (levels(3, 6, 5).astype(np.uint16) * 16).astype(dtype)
    for image, record in zip(images, read_all(save(tmp_path, "x.npy", images)).values()):
        assert np.array_equal(tf.io.decode_png(record.data, dtype=tf.uint16)[..., 0], image)


def test_an_image_is_identified_by_its_levels(tmp_path, monkeypatch):
    images = levels(3, 6, 5, 3)
    path = save(tmp_path, "x.npy", images)
    first = read_all(path)
    monkeypatch.setattr(arrays, "encode_png", lambda pixels: b"of another zlib")
    again = read_all(path)
    assert [r.identity for r in again.values()] == [r.identity for r in first.values()]
    assert len({record.identity for record in first.values()}) == 3
    wide = read_all(save(tmp_path, "y.npy", images.reshape(3, 5, 6, 3)))
    assert not {r.identity for r in wide.values()} & {r.identity for r in first.values()}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_from_0_to_1_become_the_nearest_level(tmp_path, dtype):
    images = levels(3, 6, 5, 3)
    floats = (images / 255).astype(dtype)
    for image, record in zip(images, read_all(save(tmp_path, "x.npy", floats)).values()):
        assert np.array_equal(decode(record.data, 3), image)


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.int64, np.uint32])
def test_other_numbers_need_the_level_of_white(tmp_path, dtype):
    images = levels(3, 6, 5)
    path = save(tmp_path, "x.npy", images.astype(dtype) * 4)
    for record in read_all(path).values():
        assert "levels from" in record.fault
        assert record.fault.endswith("give the level of white with --white LEVEL")
        assert not record.data
    for image, record in zip(images, read_all(path, white=1020).values()):
        assert np.array_equal(decode(record.data, 1)[..., 0], image)


def test_names_of_arrays_are_splits_and_labels(tmp_path):
    arrays = {"x_train": levels(6, 4, 5), "y_train": np.arange(6)}
    arrays |= {"x_test": levels(2, 4, 5), "y_test": np.array(["cat", "dog"]), "mean": levels(4, 5)}
    path = save(tmp_path, "mnist.npz", **arrays)
    records = read_all(path)
    assert {key: record.split for key, record in records.items()} == {
        **{f"x_train/{i:06d}": "train" for i in range(6)},
        **{f"x_test/{i:06d}": "test" for i in range(2)},
    }
    assert [r.label for r in records.values()] == [*"012345", "cat", "dog"]
    assert {record.split for record in read_all(path, splits="hash").values()} == {None}
    # As MedMNIST names them, and shapes its labels.
    arrays = {f"{split}_images": levels(3, 4, 5, 3) for split in ("train", "val", "test")}
    arrays |= {f"{split}_labels": np.full((3, 1), 7) for split in ("train", "val", "test")}
    records = read_all(save(tmp_path, "medmnist.npz", **arrays))
    assert [r.split for r in records.values()] == [*["train"] * 3, *["val"] * 3, *["test"] * 3]
    assert {record.label for record in records.values()} == {"7"}


def test_arrays_beside_splits_are_counted(tmp_path):
    path = save(
        tmp_path,
        "x.npz",
        x_train=levels(6, 4, 5),
        x_test=levels(2, 4, 5),
        unlabeled=levels(9, 4, 5),
    )
    assert open_source(path).findings().not_read == {"in unlabeled": 9}
    assert len(read_all(path)) == 8


def test_one_of_several_arrays_is_chosen(tmp_path):
    path = save(tmp_path, "x.npz", a=levels(3, 4, 5), b=levels(2, 4, 5), labels=np.arange(2))
    message = r"several arrays .*: a \[3, 4, 5\] uint8, b \[2, 4, 5\] uint8; .*x.npz:a chooses one"
    with pytest.raises(DataError, match=message):
        open_source(path).shards()
    assert list(read_all(f"{path}:b")) == ["b/000000", "b/000001"]
    assert [record.label for record in read_all(f"{path}:b").values()] == ["0", "1"]
    with pytest.raises(DataError, match="has no array 'c'; it has a "):
        open_source(f"{path}:c").shards()


@pytest.mark.parametrize("order", ["C", "F"])
def test_shards_are_ranges_of_images(tmp_path, monkeypatch, order):
    monkeypatch.setattr(base, "SHARD_BYTES", 4 * base.IMAGE_OVERHEAD_BYTES)
    images = levels(11, 8, 8)
    path = save(tmp_path, "x.npy", np.asarray(images, order=order))
    assert [shard[1:] for shard in open_source(path).shards()] == [
        ("0", "4"),
        ("4", "8"),
        ("8", "11"),
    ]
    for image, record in zip(images, read_all(path).values(), strict=True):
        assert np.array_equal(decode(record.data, 1)[..., 0], image)


def test_memory_does_not_grow_with_the_array(tmp_path):
    images = np.zeros((200, 256, 256, 3), np.uint8)
    for name in ("x.npy", "x.npz", "compressed.npz"):
        source = open_source(save(tmp_path, name, images))
        tracemalloc.start()
        count = sum(1 for shard in source.shards() for _ in source.read(shard))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == 200
        assert peak < images.nbytes / 10


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    path = save(tmp_path, "x.npy", levels(3, 4, 4))
    first = open_source(path).fingerprint()
    assert first == open_source(save(tmp_path, "other.npy", levels(3, 4, 4))).fingerprint()
    save(tmp_path, "x.npy", levels(4, 4, 4))
    assert open_source(path).fingerprint() != first


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


def objects() -> np.ndarray:
    array = np.empty(2, object)
    array[:] = [Bomb(), Bomb()]
    return array


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (objects(), r"got .*\[2\] object; Python objects are never loaded.*np.stack"),
        (levels(8, 8), "which looks like one image: save it as a PNG"),
        (levels(8, 8, 3), "which looks like one image"),
        (levels(8, 3, 8, 8), r"save x.transpose\(0, 2, 3, 1\), with the channels last"),
        (levels(8, 8, 8, 2), r"C 1, 3 or 4; got .*\[8, 8, 8, 2\] uint8$"),
        (levels(2, 2, 2, 2, 3), r"expected uint8, uint16 or float \[N, H, W\]"),
        (levels(8, 8, 8).astype(bool), r"convert it with x \* np.uint8\(255\)"),
        (levels(8, 8, 8).astype(complex), "got .* complex128: convert it"),
        (levels(8, 8, 8).astype("S3"), "convert it"),
        (np.zeros((0, 8, 8), np.uint8), "which has no pixels"),
        (np.zeros((8, 0, 8), np.uint8), "which has no pixels"),
        (np.float32(1), r"got .*\[\] float32"),
    ],
)
@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_an_array_that_is_no_batch_of_images_is_refused(tmp_path, array, text, name):
    path = save(tmp_path, name, array)
    data = path if name == "x.npy" else f"{path}:arr_0"
    with pytest.raises(DataError, match=text) as error:
        open_source(data).shards()
    assert "\n" not in str(error.value)


def test_a_npz_without_images_lists_what_it_has(tmp_path):
    with pytest.raises(
        DataError, match=r"no images in .*; got a \[3\] int64, b \[1\] object; Pyth"
    ):
        open_source(save(tmp_path, "x.npz", a=np.arange(3), b=objects()[:1])).shards()
    with pytest.raises(DataError, match=r"got no array$"):
        open_source(save(tmp_path, "x.npz")).shards()


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "compressed.npz"])
def test_damaged_files_are_refused_with_one_line(tmp_path, name):
    path = Path(save(tmp_path, name, levels(20, 16, 16)))
    good = path.read_bytes()
    damaged = [good[: len(good) * i // 9] for i in range(9)] + [b"x" * 99]
    if name != "compressed.npz":
        damaged.append(good.replace(b"(20, 16", b"(-2, 16"))
        damaged.append(good.replace(b"\x93NUMPY\x01\x00v", b"\x93NUMPY\x01\x00\xff"))
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"cannot read .* as a .np[yz]: ") as error:
            open_source(str(path)).shards()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["of the stream", "of a pixel"])
def test_a_damaged_compressed_array_is_refused(tmp_path, damage):
    images = levels(40, 64, 64) // 16
    path = save(tmp_path, "compressed.npz", x_train=images, x_test=images[:3])
    if damage == "of the stream":
        with Path(path).open("r+b") as file:
            file.seek(50_000)
            file.write(b"\xff" * 500)
    else:
        replace_data(path, "x_train", lambda data: data.replace(images[7].tobytes(), bytes(4096)))
    with pytest.raises(DataError, match=rf"cannot read {path} as a .npz: .*(CRC|decompress)") as e:
        open_source(path).shards()
    assert "\n" not in str(e.value)
    assert len(read_all(f"{path}:x_test")) == 3


def test_damaged_labels_are_refused_with_one_line(tmp_path):
    long = np.full(9, "cat" * 5_000)
    arrays = {"x_train": levels(9, 4, 5), "y_train": long, "x_test": levels(2, 4, 5)}
    path = save(tmp_path, "compressed.npz", **arrays)
    replace_data(path, "y_train", lambda data: data[:-1] + b"\1")
    with pytest.raises(DataError, match=r"as a .npz: Bad CRC-32 for file 'y_train.npy'$"):
        open_source(path).shards()


def replace_data(path: str, name: str, change: Callable[[bytes], bytes]) -> None:
    """Changes a compressed array and not its checksum."""
    with zipfile.ZipFile(path) as archive:
        contents = {info.filename: archive.read(info) for info in archive.infolist()}
        (checksum,) = (i.CRC for i in archive.infolist() if i.filename == f"{name}.npy")
    changed = change(contents[f"{name}.npy"])
    assert changed != contents[f"{name}.npy"]
    contents[f"{name}.npy"] = changed
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in contents.items():
            archive.writestr(member, data)
    wrong, right = (crc.to_bytes(4, "little") for crc in (zlib.crc32(changed), checksum))
    Path(path).write_bytes(Path(path).read_bytes().replace(wrong, right))


def test_an_array_that_claims_more_than_it_has_is_refused(tmp_path):
    header = io.BytesIO()
    shape = (10**12, 64, 64)
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(2**20))
    with pytest.raises(DataError, match="truncated"):
        open_source(str(tmp_path / "x.npz")).shards()
    path = Path(save(tmp_path, "compressed.npz", levels(20, 16, 16)))
    size = (5120 + 128).to_bytes(4, "little")
    assert path.read_bytes().count(size) >= 1
    path.write_bytes(path.read_bytes().replace(size, (2**31).to_bytes(4, "little")))
    with pytest.raises(DataError, match="claims 2,147,483,648 bytes, more than can be compressed"):
        open_source(str(path)).shards()


def test_a_npz_of_very_many_arrays_says_to_stack_them(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for i in range(10_001):
            archive.writestr(f"{i}.npy", b"")
    with pytest.raises(DataError, match=r"10,001 arrays, .*np.stack\(images\)"):
        open_source(str(tmp_path / "x.npz")).shards()


def test_very_many_tiny_images_take_little_memory(tmp_path):
    header = io.BytesIO()
    shape = (25_000_000, 2, 2)
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    with (tmp_path / "x.npy").open("wb") as file:
        file.write(header.getvalue())
        file.truncate(len(header.getvalue()) + 100_000_000)
    tracemalloc.start()
    source = open_source(str(tmp_path / "x.npy"))
    shards = source.shards()
    assert next(source.read(shards[-1])).key == f"x/{shards[-1][1]}"
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert shards[-1][2] == "25000000"


@pytest.mark.parametrize("options", [{"splits": "folders"}, {"exclude": ["*.png"]}])
def test_options_of_folders_are_refused(tmp_path, options):
    with pytest.raises(DataError, match="needs a folder or an archive"):
        open_source(save(tmp_path, "x.npy", levels(3, 4, 4)), **options)


def test_only_files_with_parts_have_parts(tmp_path):
    (tmp_path / "x.zip").touch()
    with pytest.raises(DataError, match=r"have parts to choose by name; got .*x.zip"):
        open_source(f"{tmp_path}/x.zip:images")
