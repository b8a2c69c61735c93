import os
import pickle
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from keras_ae.datasets.sources import base
from keras_ae.datasets.sources.names import escape_name, unescape_name
from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import DataError

NAMES = ("a.png", "cats/b.JPG", "cats/deep/c.webp", "d.gif", "e.bmp")


@pytest.fixture
def folder(tmp_path, photographs, encode):
    """Five images in three folders, and files that are not images."""
    root = tmp_path / "images"
    for i, name in enumerate(NAMES):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {"JPG": "JPEG"}.get(name.split(".")[-1], name.split(".")[-1].upper())
        path.write_bytes(encode(photographs[0][i : i + 16, :24], kind))
    (root / "readme.txt").write_text("text")
    (root / ".hidden.png").write_bytes(b"x")
    (root / ".thumbnails").mkdir()
    (root / ".thumbnails" / "a.png").write_bytes(b"x")
    return root


@pytest.fixture(params=["folder", "zip", "tar", "tar.gz", "tar.xz"])
def source_path(request, folder, tmp_path):
    """The same images as a folder and in archives of each kind."""
    if request.param == "folder":
        return folder
    path = tmp_path / f"images.{request.param}"
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    if request.param == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in files:
                archive.write(file, file.relative_to(folder))
    else:
        with tarfile.open(path, f"w:{request.param.partition('.')[2]}") as archive:
            for file in files:
                archive.add(file, file.relative_to(folder))
    return path


def read_all(source: base.Source) -> dict[str, base.Record]:
    records = [record for shard in source.shards() for record in source.read(shard)]
    assert len({record.key for record in records}) == len(records)
    return {record.key: record for record in records}


def test_folder_and_archives_give_the_same_images(source_path, folder, tmp_path):
    before = set(tmp_path.rglob("*"))
    source = pickle.loads(pickle.dumps(open_source(str(source_path))))
    records = read_all(source)
    assert set(records) == set(NAMES)
    for name, record in records.items():
        assert record.data == (folder / name).read_bytes()
        assert not record.fault
    # Nothing was extracted.
    assert set(tmp_path.rglob("*")) == before


def test_shards_can_be_read_independently_and_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "SHARD_BYTES", 4 * base.IMAGE_OVERHEAD_BYTES)
    path = tmp_path / "many.tar"
    (tmp_path / "x.png").write_bytes(b"")
    with tarfile.open(path, "w") as archive:
        for i in range(11):
            (tmp_path / "x.png").write_bytes(bytes([i]))
            archive.add(tmp_path / "x.png", f"{i:02}.png")
    source = open_source(str(path))
    parts = source.shards()
    assert [len(part) for part in parts] == [4, 4, 3]
    for shard in reversed(parts):
        for record in source.read(shard):
            assert record.data == bytes([int(record.key[:2])])


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_huge_member_of_an_archive_has_a_separate_shard(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(base, "SHARD_BYTES", 20_000)
    path = tmp_path / f"images.{kind}"
    sizes = {f"{i:02}.png": 100_000 if i == 5 else 100 for i in range(20)}
    (tmp_path / "x").write_bytes(bytes(100_000))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, size in sizes.items():
            archive.writestr(name, bytes(size))
    if kind == "tar":
        with tarfile.open(path, "w") as archive:
            for name, size in sizes.items():
                info = tarfile.TarInfo(name)
                info.size = size
                with (tmp_path / "x").open("rb") as file:
                    archive.addfile(info, file)
    parts = open_source(str(path)).shards()
    assert [name for part in parts for name in part] == sorted(sizes)
    assert len(next(part for part in parts if "05.png" in part)) <= 4
    assert len(parts) > 4


def test_the_fingerprint_depends_on_names_and_contents(folder):
    source = open_source(str(folder))
    first = source.fingerprint()
    (folder / "readme.txt").write_text("other text")
    assert source.fingerprint() == first
    data = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(data + b"\0")
    changed = source.fingerprint()
    (folder / "a.png").rename(folder / "z.png")
    assert len({first, changed, source.fingerprint()}) == 3


def test_a_changed_archive_is_read_again(tmp_path):
    path = tmp_path / "images.zip"
    for name in ("a.png", "bb.png"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, name)
        source = open_source(str(path))
        assert set(read_all(source)) == {name}


def test_a_file_that_cannot_be_read_is_a_record_with_a_fault(folder):
    source = open_source(str(folder))
    shards = source.shards()
    (folder / "a.png").unlink()
    (record,) = (r for shard in shards for r in source.read(shard) if r.key == "a.png")
    assert "No such file" in record.fault


def test_names_in_any_encoding_are_read_and_linked_folders_are_not(folder, tmp_path):
    data = (folder / "a.png").read_bytes()
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")).write_bytes(data)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f.png").write_bytes(data)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "circle").symlink_to(folder)
    source = open_source(str(folder))
    records = read_all(source)
    assert set(records) == {*NAMES, "caf\\xe9.png", "link", "circle"}
    for name in ("link", "circle"):
        assert records[name].fault.startswith("a link to a folder, which is not followed")
    source.fingerprint()


def test_a_very_deep_folder_is_read(tmp_path):
    folder = tmp_path
    for _ in range(11):
        folder = folder.joinpath(*"d" * 100)
        folder.mkdir(parents=True)
    (folder / "deep.png").write_bytes(b"x")
    try:
        assert set(read_all(open_source(str(tmp_path)))) == {"d/" * 1100 + "deep.png"}
    finally:
        # shutil.rmtree would fail on this depth.
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_different_names_stay_different_when_they_are_escaped():
    names = ["a\n", "a\\x0a", "a\\\\x0a", "\x85", "\udc85", "\\x85", "\\u0085", "\u202e", "a\\b"]
    escaped = [escape_name(name) for name in names]
    assert [unescape_name(text) for text in escaped] == names
    assert len(set(escaped)) == len(names)
    assert all(text.isprintable() for text in escaped)
    assert escape_name("caf\u00e9 \U0001f600 a\\b.png") == "caf\u00e9 \U0001f600 a\\b.png"


def test_a_file_that_vanishes_does_not_stop_the_fingerprint(folder):
    (folder / "dangling.png").symlink_to(folder / "missing.png")
    source = open_source(str(folder))
    source.fingerprint()
    assert "No such file" in read_all(source)["dangling.png"].fault


@pytest.mark.parametrize("method", ["ZIP_DEFLATED", "ZIP_BZIP2", "ZIP_LZMA"])
def test_members_of_a_zip_with_changed_bytes_are_read_or_have_a_fault(tmp_path, method):
    data = os.urandom(500)
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w", getattr(zipfile, method)) as archive:
        archive.writestr("a.png", data)
    good = path.read_bytes()
    faults = 0
    for offset in range(40, 400, 9):
        path.write_bytes(good[:offset] + bytes([good[offset] ^ 255]) + good[offset + 1 :])
        (record,) = read_all(open_source(str(path))).values()
        faults += bool(record.fault)
        assert record.fault or record.data == data
    assert faults > 30


def test_a_damaged_member_of_a_zip_is_a_record_with_a_fault(tmp_path):
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"a" * 100)
        archive.writestr("b.png", b"b" * 100)
    path.write_bytes(path.read_bytes().replace(b"a" * 100, b"c" * 100))
    records = read_all(open_source(str(path)))
    assert "CRC" in records["a.png"].fault
    assert not records["b.png"].fault


def _write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda folder: folder / "missing", "no such folder or archive: .*missing"),
        (lambda folder: folder, r"no image in .*: it has no files$"),
        (lambda folder: _write(folder / "a.txt", "x").parent, "not read: 1 .txt$"),
        (
            lambda folder: _write(folder / "a.ZIP", "x").parent,
            "not read: 1 .zip; to read the archive, give its path: .*/a.ZIP$",
        ),
        (
            lambda folder: (
                (_write(folder / "b.tar.gz", ""), _write(folder / "a.tar.gz", ""))[1].parent
            ),
            "not read: 2 .gz; to read one of the 2 archives, give its path: .*/a.tar.gz$",
        ),
        (lambda _: "", "expected a path, tfds:NAME or sample; got an empty string"),
        (lambda folder: _write(folder / "a.rar", "x"), "an archive that cannot be read: unpack it"),
        (lambda folder: _write(folder / "a.zip", "x"), "cannot open .* as a zip"),
        (lambda folder: _write(folder / "a.tar", "x"), "cannot read .* as a tar"),
        (lambda folder: _write(folder / "a.tgz", "x"), "cannot read .* as a tar"),
    ],
)
def test_an_invalid_source_is_reported(tmp_path, make, text):
    with pytest.raises(DataError, match=text):
        open_source(str(make(tmp_path))).shards()


def test_a_truncated_archive_is_reported(source_path, tmp_path):
    if source_path.is_dir():
        return
    data = source_path.read_bytes()
    truncated = tmp_path / f"truncated{source_path.name.removeprefix('images')}"
    truncated.write_bytes(data[: len(data) // 3])
    with pytest.raises(DataError, match=r"cannot (open|read)"):
        open_source(str(truncated)).shards()


def test_paths_in_an_archive_are_only_names(tmp_path):
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../outside.png", b"x")
        archive.writestr("/absolute.png", b"y")
    assert len(read_all(open_source(str(path)))) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_records_decode_to_the_pixels_of_the_photographs(folder, photographs):
    from keras_ae.datasets.images.normalize import decode

    record = read_all(open_source(str(folder)))["a.png"]
    assert np.array_equal(decode(record.data, 3), photographs[0][:16, :24])


def test_a_damaged_member_without_suffix_has_a_fault(tmp_path, photographs, encode):
    path = tmp_path / "images.zip"
    png = encode(photographs[0][:16, :16], "PNG")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scan", png)
        archive.writestr("good.png", png)
    data = bytearray(path.read_bytes())
    begin = data.index(b"scan") + len("scan")
    data[begin : begin + 20] = b"\xff" * 20
    path.write_bytes(data)
    records = read_all(open_source(str(path)))
    assert "cannot be read from the archive" in records["scan"].fault
    assert not records["good.png"].fault


def test_a_zip_with_backslashes_has_folders(tmp_path, photographs, encode):
    path = tmp_path / "images.zip"
    png = encode(photographs[0][:16, :16], "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        for split in ("train", "test"):
            archive.writestr(f"{split}\\good\\1.png", png)
    records = read_all(open_source(str(path)))
    assert [(record.split, record.label) for record in records.values()] == [
        ("test", "good"), ("train", "good"),
    ]  # fmt: skip
