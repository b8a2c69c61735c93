import math
import re
import xml.dom.minidom

import numpy as np
import pytest

from keras_ae.comparison import Score, compare
from keras_ae.report import figures
from keras_ae.report.page import Picture, write_report

ABOUT = {
    "data": "photos & <more>",
    "images": {"train": 10, "val": 3, "test": 9, "quarantined": 2},
    "preset": "medium",
    "parameters": 123456,
    "channels": 3,
    "stride": 8,
    "latent_channels": 8,
    "tile": 64,
    "tiles_per_epoch": 80,
    "tiles_per_second": 1234.5,
    "decoded_bytes": 36_200_000,
    "placement": "in memory",
    "seed": 7,
}


def make_comparison(budgets=(10, 100, 2000), global_floor=math.nan, **arguments):
    scores = [
        Score(f"{i}.png", split, budget, 1e-3, 25.0 + at + i / 10, 0.9, 0.95, 24.0, global_floor)
        for at, budget in enumerate(budgets)
        for split in ("train", "val", "test")
        for i in range(9)
    ]
    stages = [{"stop": budget, "seconds": 1.0} for budget in budgets]
    return compare(scores, stages, **arguments)


@pytest.fixture
def page(tmp_path, encode):
    image = np.zeros((300, 500, 3), np.uint8)
    pictures = [
        Picture("a<b>.png", encode(image, "PNG"), {b: (encode(image, "PNG"), 25.0 + b / 1000)})
        for b in (10,)
    ]
    write_report(make_comparison(), pictures, ABOUT, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


def test_the_page_needs_no_network_and_no_script(page):
    assert "<script" not in page
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_the_page_shows_the_numbers_the_choice_and_the_run(page):
    for text in (
        "2,000 epochs",
        "27.40",
        "+3.40",
        "123,456",
        "1/24 of the numbers",
        "36 MB decoded, in memory",
    ):
        assert text in page
    assert "2 set aside" in page
    assert page.count("(chosen)") == 1
    assert "still rising" in page


def test_the_page_lists_the_trials_where_there_were_any(page, tmp_path):
    assert "Trials" not in page
    trial = {
        "trial": 3, "width": 40, "blocks": [1, 5], "learning_rate": 0.00123, "batch_size": 16,
        "parameters": 54321, "untuned": False, "val_psnr": 25.6789, "taken": True,
    }  # fmt: skip
    own = {**trial, "trial": 1, "untuned": True, "val_psnr": 24.3, "taken": False}
    tuning = {"preset": "medium", "epochs": 5, "parameters": 99999, "trials": 3, "failed": 1}
    comparison = {**make_comparison(), "trials": [trial, own], "tuning": tuning}
    write_report(comparison, [], ABOUT, tmp_path / "tuned.html")
    tuned = (tmp_path / "tuned.html").read_text()
    texts = ("3 (taken)", "1 (medium itself)", "<td>40</td>", "1 + 5", "0.0012", "54,321", "25.68")
    for text in (*texts, "99,999", "5 epochs", "1 of 3 trials did not train"):
        assert text in tuned


def test_names_are_escaped(page):
    assert "a&lt;b&gt;.png" in page
    assert "photos &amp; &lt;more&gt;" in page


def test_the_figure_is_well_formed_and_inside_its_box(page):
    (svg,) = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    tree = xml.dom.minidom.parseString(svg)
    circles = tree.getElementsByTagName("circle")
    assert len(circles) == 9
    for circle in circles:
        assert figures.LEFT <= float(circle.getAttribute("cx")) <= figures.WIDTH - figures.RIGHT
        assert figures.TOP <= float(circle.getAttribute("cy")) <= figures.HEIGHT - figures.BOTTOM


def test_higher_psnr_lies_higher_and_epochs_grow_to_the_right():
    curve = figures.psnr_curve(make_comparison())
    for line in curve.lines:
        xs, ys = [dot[0] for dot in line.dots], [dot[1] for dot in line.dots]
        assert xs == sorted(xs)
        assert ys == sorted(ys, reverse=True)
        assert line.floor > ys[0]
    assert curve.chosen == curve.lines[0].dots[-1][0]


def test_one_budget_can_be_drawn():
    curve = figures.psnr_curve(make_comparison((10,)))
    assert len(curve.lines[0].dots) == 1
    labels = sorted(line.label_y for line in curve.lines)
    assert all(b - a >= 16 for a, b in zip(labels, labels[1:]))


def test_the_global_floor_is_a_row_and_a_dotted_line_of_each_split(tmp_path):
    comparison = make_comparison((10,), global_floor=24.7)
    comparison["global_floor"]["val"].update(mean=None, gain_over_floor=None, skipped=9)
    write_report(comparison, [], ABOUT, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<td>global PCA</td>" in page
    assert "+0.70" in page
    assert "9 val images of another size" in page
    assert page.count(": global PCA</title>") == 2
    for line in figures.psnr_curve(comparison).lines:
        if line.split == "val":
            assert line.global_floor is None
        else:
            assert line.dots[0][1] < line.global_floor < line.floor


def test_without_a_global_floor_the_page_says_why(tmp_path):
    comparison = make_comparison((10,), no_global_floor="the training images differ in size")
    write_report(comparison, [], ABOUT, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "No PCA of whole images: the training images differ in size." in page
    assert "global PCA" not in page
    assert "Dotted" not in page
    assert all(line.global_floor is None for line in figures.psnr_curve(comparison).lines)
