"""Links, files of any name, and large files that are no images."""

import pickle
import tarfile
import zipfile

import pytest

from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import DataError


@pytest.fixture
def png(photographs, encode) -> bytes:
    return encode(photographs[0][:16, :24], "PNG")


def read_all(source):
    return {record.key: record for shard in source.shards() for record in source.read(shard)}


def write(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.fixture(params=["folder", "zip", "deflated", "bz2", "tar", "tar.gz"])
def packed(request, tmp_path):
    """Writes files as a folder, or as an archive of one of its kinds."""

    def pack(files):
        folder = write(tmp_path / "data", files)
        if request.param == "folder":
            return str(folder)
        if request.param.startswith("tar"):
            path = tmp_path / f"data.{request.param}"
            with tarfile.open(path, f"w:{request.param[4:]}") as archive:
                archive.add(folder, ".")
            return str(path)
        methods = {"deflated": zipfile.ZIP_DEFLATED, "bz2": zipfile.ZIP_BZIP2}
        with zipfile.ZipFile(tmp_path / "data.zip", "w", methods.get(request.param, 0)) as archive:
            for name in files:
                archive.write(folder / name, name)
        return str(tmp_path / "data.zip")

    return pack


def test_images_are_known_by_their_first_bytes(packed, png, photographs, encode):
    jpeg = encode(photographs[0][:400, :600], "JPEG")
    images = {"a.png": png, "b": png, "c.dat": jpeg, "d.0001": png, "e.jfif": jpeg, "f.jpe": jpeg}
    others = {"g.xyz": b"text", "h.xyz": b"", "i": b"text" * 5000, "j.txt": png, "k.MOV": b"m"}
    source = pickle.loads(pickle.dumps(open_source(packed({**images, **others, "l.png": b"text"}))))
    records = {name.removeprefix("./"): record for name, record in read_all(source).items()}
    good = {name: r.data for name, r in records.items() if not r.not_read and name != "l.png"}
    assert good == images
    assert records["l.png"].data == b"text"
    assert {name: r.not_read for name, r in records.items() if r.not_read} == {
        "g.xyz": ".xyz",
        "h.xyz": ".xyz",
        "i": "without suffix",
    }
    assert source.findings().not_read == {".txt": 1, ".mov": 1}


def test_folders_in_an_archive_are_splits_and_labels(packed, png):
    names = [f"{s}/{label}/{i}.png" for s in ("train", "test") for label in "ab" for i in range(2)]
    source = open_source(packed(dict.fromkeys([*names, "masks/a/1.png", "more/1"], png)))
    for name, record in read_all(source).items():
        folders = name.removeprefix("./").split("/")
        assert (record.split, record.label) == (folders[0], folders[1])
    assert source.findings().not_read == {"in masks": 1, "in no split folder": 1}
    by_hash = open_source(source.path, splits="hash")
    records = read_all(by_hash)
    assert len(records) == 9
    assert {(record.split, record.label) for record in records.values()} == {(None, None)}


def test_only_the_first_bytes_of_a_file_that_is_no_image_are_read(tmp_path, png):
    write(tmp_path, {"a.png": png})
    with (tmp_path / "huge.xyz").open("wb") as file:
        file.truncate(10 * 10**9)
    source = open_source(str(tmp_path))
    assert read_all(source)["huge.xyz"].not_read == ".xyz"
    source.fingerprint()


def test_the_fingerprint_covers_images_of_any_name(tmp_path, png):
    source = open_source(str(write(tmp_path, {"a.png": png, "b": png})))
    first = source.fingerprint()
    (tmp_path / "c.xyz").write_bytes(b"text")
    (tmp_path / "d.txt").write_bytes(b"text")
    with_other = source.fingerprint()
    (tmp_path / "b").write_bytes(png + b"\0")
    assert len({first, with_other, source.fingerprint()}) == 3


def test_links_are_followed_if_asked_for_and_counted_otherwise(tmp_path, png):
    data = write(tmp_path / "data", {"a.png": png, "real/b.png": png})
    other = write(tmp_path / "other", {f"{i}.png": png for i in range(5)} | {"deep/6.png": png})
    write(other, {".hidden.png": png})
    (data / "link").symlink_to(other)
    (data / "deep").symlink_to(other / "deep")
    (data / "circle").symlink_to(data)
    (other / "back").symlink_to(data / "real")
    (data / "file.png").symlink_to(other / "1.png")
    (data / "no-suffix").symlink_to(other / "2.png")
    (data / "dangling").symlink_to(tmp_path / "missing")
    source = open_source(str(data))
    records = read_all(source)
    assert {name for name, record in records.items() if not record.fault} == {
        "a.png", "real/b.png", "no-suffix", "dangling",
    }  # fmt: skip
    assert records["link"].fault == (
        "a link to a folder, which is not followed (with 7 files); --follow-links follows it"
    )
    assert "or --follow-links" in records["file.png"].fault
    assert records["no-suffix"].not_read == records["dangling"].not_read == "behind links"
    # Of these, "circle" leads back to what is read.
    assert source.findings().not_read["behind links"] == 8

    followed = open_source(str(data), follow_links=True)
    records = read_all(followed)
    assert {name for name, record in records.items() if record.data} == {
        "a.png", "real/b.png", "no-suffix", "file.png", "deep/6.png",
        *(f"link/{i}.png" for i in range(5)),
    }  # fmt: skip
    assert not any(record.fault for record in records.values())
    assert len(followed.fingerprint()) == 64


def test_links_to_split_folders_are_splits(tmp_path, png):
    write(tmp_path, {"pool/a/cats/1.png": png, "pool/b/cats/2.png": png, "data/readme.md": b""})
    (tmp_path / "data" / "train").symlink_to(tmp_path / "pool" / "a")
    (tmp_path / "data" / "test").symlink_to("../pool/b")
    records = read_all(open_source(str(tmp_path / "data"), follow_links=True))
    splits = {name: (record.split, record.label) for name, record in records.items()}
    assert splits == {"train/cats/1.png": ("train", "cats"), "test/cats/2.png": ("test", "cats")}


def test_links_are_followed_on_this_machine_only(tmp_path, png):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", png)
    with pytest.raises(DataError, match="--follow-links needs a folder on this machine; got "):
        open_source(str(tmp_path / "a.zip"), follow_links=True)
