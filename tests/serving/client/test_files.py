"""Files of the command line: the names of their answers, and how they share requests."""

import io

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
