"""Files of the command line: the names of their answers, and how they share requests."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from keras_ae import contract as c
from serving.client.cli import files
from serving.client.images import measure


def image_file(folder, name, height=4, width=6):
    path = folder / name
    Image.fromarray(np.zeros((height, width), np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "b.png"], ["a.png", "b.png"]),
        (["a.jpg", "a.png"], ["a.jpg.png", "a.png.png"]),
        (["a.jpg", "a.jpg.png", "a.png"], ["a.jpg.png", "a.jpg.png.png", "a.png.png"]),
        (
            ["a.jpg", "a.jpg.png", "a.jpg.png.bmp", "a.png"],
            ["a.jpg.png", "a.jpg.png.png", "a.jpg.png.bmp.png", "a.png.png"],
        ),
    ],
)
def test_no_two_sources_share_a_name(tmp_path, names, expected):
    for order in (1, -1):
        sources = [tmp_path / name for name in names[::order]]
        outputs = files.output_paths(sources, tmp_path, tmp_path / "out")
        assert [outputs[source].name for source in sources] == expected[::order]


def test_files_share_requests_up_to_the_pixel_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(c, "MAX_REQUEST_PIXELS", 60)
    paths = [image_file(tmp_path, f"{i}.png") for i in range(5)]
    (tmp_path / "5.png").write_bytes(b"no image")
    paths += [tmp_path / "5.png", tmp_path / "missing.png"]
    batch_sizes = []

    def request(images):
        batch_sizes.append(len(images))
        return images

    results = dict(files.request_in_batches(paths, request))
    assert sorted(batch_sizes) == [2, 2, 2]
    assert [results[path] for path in paths[:6]] == [path.read_bytes() for path in paths[:6]]
    assert "cannot be read" in results[paths[6]]


@pytest.mark.parametrize("suffix", sorted({*c.IMAGE_SUFFIXES} - {".heic", ".heif"}))
def test_the_pixel_count_of_a_file_is_read_from_its_header(tmp_path, suffix):
    path = image_file(tmp_path, f"image{suffix}", 40, 30)
    assert measure(path) == measure(path.read_bytes())
    assert measure(path)[1] == 1200
    assert measure(path.read_bytes()[:6])[1] == 0


def test_a_large_header_is_read_without_a_warning():
    buffer = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(buffer, "PNG")
    assert measure(buffer.getvalue())[1] == 100_000_000


def test_files_are_known_by_their_first_bytes_and_all_others_counted(tmp_path):
    png = image_file(tmp_path, "a.png").read_bytes()
    for name in ("scan", "scan.0001", "odd.xyz", "deep/b.JFIF", "bad.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"text" if name == "bad.tif" else png)
    for name in (
        "1.xyz",
        "2.xyz",
        "c.MOV",
        "notes",
        "model.npy",
        ".DS_Store",
        "Thumbs.db",
        "._a.png",
    ):
        (tmp_path / name).write_bytes(b"text")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "a.png").write_bytes(png)
    (tmp_path / "link").symlink_to(tmp_path / "deep", target_is_directory=True)
    os.mkfifo(tmp_path / "pipe")
    found = files.find(tmp_path)
    names = [str(path.relative_to(tmp_path)) for path in found.paths]
    assert names == ["a.png", "bad.tif", "deep/b.JFIF", "odd.xyz", "scan", "scan.0001"]
    assert files.describe_not_read(found.not_read) == (
        "not read: 2 .xyz, 2 without suffix, 1 .mov, 1 .npy, 1 links to folders"
    )
    outputs = files.output_paths(found.paths, tmp_path, tmp_path / "out")
    assert len(set(outputs.values())) == 6
    assert outputs[tmp_path / "scan.0001"].name == "scan.0001.png"
