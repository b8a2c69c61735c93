import json

import numpy as np
import pytest
from PIL import Image

from keras_ae.scores import MODEL, Layout, make_table
from keras_ae.scoring.pictures import ERROR_TOP, select_images, write_pictures
from keras_ae.scoring.reading import digest_of

LAYOUT = Layout((10, 20), {MODEL: 1})


def test_the_best_the_median_and_the_worst_come_first_then_others_between():
    psnr = np.array([20.0, 30.0, 10.0, 25.0, 15.0])
    selected = select_images(psnr)
    assert [s.rank for s in selected] == ["best", "median", "worst", "", ""]
    assert [psnr[s.row] for s in selected] == [30.0, 20.0, 10.0, 25.0, 15.0]
    many = select_images(np.arange(1000.0))
    assert len(many) == 12
    assert len({s.row for s in many}) == 12
    assert [s.rank for s in select_images(np.array([1.0]))] == ["best"]
    assert [s.rank for s in select_images(np.array([1.0, 2.0]))] == ["best", "worst"]


@pytest.mark.parametrize(("channels", "sides"), [(3, (90, 120)), (1, (20, 1030))])
def test_reconstructions_and_error_maps_are_those_of_the_image(
    write_examples, encode, tmp_path, channels, sides
):
    rng = np.random.default_rng(0)
    smooth = rng.integers(40, 200, (3, 1, 1, channels)) + np.linspace(0, 40, sides[1])[:, None]
    images = [np.broadcast_to(s, (*sides, channels)).astype(np.uint8) for s in smooth]
    pattern, encoded = write_examples(images)
    values = np.full((3, LAYOUT.width), np.nan, np.float32)
    values[:, 0] = 20.0
    LAYOUT.select(values, MODEL, "psnr")[:] = np.array([[[21, 25]], [[22, 30]], [[23, 20]]])
    rows = make_table(["a", "b", "c"], [digest_of(e) for e in encoded], {}, values)

    def reconstruct(batch):
        return {"10": batch, "20": batch + np.uint8(16), "floor": batch}

    write_pictures(pattern, rows, LAYOUT, (0, 1), reconstruct, channels, tmp_path / "pictures")
    index = json.loads((tmp_path / "pictures" / "pictures.json").read_text())
    assert [(i["name"], i["rank"]) for i in index["images"]] == [
        ("b", "best"), ("a", "median"), ("c", "worst")]  # fmt: skip
    first = index["images"][0]
    assert (first["height"], first["width"]) == sides
    assert max(first["shown"]) <= 512
    assert first["floor_psnr"] == 20.0
    assert first["budgets"]["20"]["psnr"] == 30.0
    assert first["budgets"]["20"]["ssim"] is None

    def shown(name):
        return np.asarray(Image.open(tmp_path / "pictures" / name).convert("RGB"), float)

    assert list(shown(first["original"]).shape[:2]) == first["shown"]
    expected = images[1].mean()
    assert shown(first["original"]).mean() == pytest.approx(expected, abs=3)
    assert shown(first["budgets"]["20"]["image"]).mean() == pytest.approx(expected + 16, abs=3)
    assert shown(first["budgets"]["10"]["error"]).max() == 0
    error = shown(first["budgets"]["20"]["error"])
    assert error.mean() == pytest.approx(255 * 16 / ERROR_TOP, abs=2)


def test_copies_of_an_image_are_all_shown(write_examples, tmp_path):
    image = np.full((20, 20, 1), 99, np.uint8)
    pattern, encoded = write_examples([image, image])
    values = np.full((2, LAYOUT.width), 20.0, np.float32)
    rows = make_table(["a", "copy of a"], [digest_of(e) for e in encoded], {}, values)
    write_pictures(
        pattern, rows, LAYOUT, (0, 0), lambda x: {"10": x, "20": x, "floor": x}, 1, tmp_path
    )
    index = json.loads((tmp_path / "pictures.json").read_text())
    assert [entry["name"] for entry in index["images"]] == ["a", "copy of a"]
