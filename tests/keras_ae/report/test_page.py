"""The report in a browser."""

import base64
import contextlib
import io
import json

import numpy as np
import pytest
from PIL import Image

from keras_ae.comparison.records import Comparison
from keras_ae.report.page import write_report
from keras_ae.report.pictures import colours
from tests.keras_ae.report.reports import BUDGETS, make_comparison, make_pictures

NAMES = ["a<b>.png", "</script><script>x.png", "grey.png"]
DRAWN = """(id) => {
  const canvas = document.getElementById(id);
  return [canvas.dataset.position.split(" ").map(Number), canvas.toDataURL().split(",")[1]];
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory, photographs):
    """The page, and the pixels of its pictures by file name."""
    folder = tmp_path_factory.mktemp("report")
    photographs = [photographs[0], photographs[1], photographs[2].mean(2).astype(np.uint8)]
    pixels = make_pictures(folder / "pictures", photographs, side=120, names=NAMES, lossless=True)
    comparison = Comparison.model_validate(make_comparison())
    write_report(comparison, folder / "pictures", folder / "report.html")
    return folder / "report.html", pixels


@contextlib.contextmanager
def opened(browser, path, **options):
    """Opens the page; fails if it logs to the console or requests anything but itself."""
    context = browser.new_context(**options)
    page = context.new_page()
    faults = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request",
        lambda request: (
            request.url.startswith(("data:", path.as_uri())) or faults.append(request.url)
        ),
    )
    page.goto(path.as_uri())
    yield page
    context.close()
    assert faults == []


@pytest.fixture
def page(browser, report):
    with opened(browser, report[0], viewport={"width": 1280, "height": 1400}) as page:
        wait_until_shown(page, 0, 1000)
        page.locator("#panes").scroll_into_view_if_needed()
        yield page


def wait_until_shown(page, image, epochs, left="original"):
    page.wait_for_selector(f"#viewer[data-shown='{image} {epochs} {left}']")


def drawn(page, id):
    """The position of the image in a canvas, and the pixels of the canvas."""
    position, data = page.evaluate(DRAWN, id)
    return tuple(position), np.asarray(
        Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    )


def at_centres(page, id, picture, columns):
    """Colours of a canvas at the centres of a picture's pixels in some columns, and the pixels."""
    (left, top, scale), canvas = drawn(page, id)
    assert scale >= 2
    ys = (top + (np.arange(picture.shape[0]) + 0.5) * scale).astype(int)
    xs = (left + (np.arange(*columns) + 0.5) * scale).astype(int)
    return canvas[np.ix_(ys, xs)], picture[:, slice(*columns)]


def assert_shown(page, id, picture, columns=None):
    shown, expected = at_centres(page, id, picture, columns or (0, picture.shape[1]))
    np.testing.assert_array_equal(shown, expected)


def test_the_divider_has_the_original_on_its_left_and_the_reconstruction_on_its_right(page, report):
    _, pixels = report
    assert_shown(page, "compare", pixels["0.webp"], (0, 59))
    assert_shown(page, "compare", pixels["0-1000.webp"], (61, 120))
    page.get_by_role("radio", name="PCA floor").check()
    wait_until_shown(page, 0, 1000, "floor")
    assert_shown(page, "compare", pixels["0-floor.webp"], (0, 59))
    assert_shown(page, "compare", pixels["0-1000.webp"], (61, 120))


def test_the_slider_shows_the_image_and_the_error_map_of_its_budget(page, report):
    _, pixels = report
    table = np.array(colours(256), np.uint8)
    slider = page.get_by_role("slider", name="Epochs")
    slider.focus()
    page.keyboard.press("Home")
    for epochs in BUDGETS:
        wait_until_shown(page, 0, epochs)
        assert_shown(page, "compare", pixels[f"0-{epochs}.webp"], (61, 120))
        assert_shown(page, "errors", table[pixels[f"0-{epochs}-error.webp"][..., 0]])
        assert slider.get_attribute("aria-valuetext").startswith(f"{epochs:,} epochs")
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#right-tag") == "2,000 epochs"


def test_the_scores_are_those_of_the_image_and_the_budget(page, report):
    entry = json.loads((report[0].parent / "pictures" / "pictures.json").read_text())["images"][1]
    page.get_by_role("radio", name=NAMES[1]).check()
    wait_until_shown(page, 1, 1000)
    budget = entry["budgets"]["1000"]
    assert page.inner_text("#psnr") == f"{budget['psnr']:.2f} dB"
    assert page.inner_text("#ssim") == f"{budget['ssim']:.4f}"
    assert page.inner_text("#floor-psnr") == f"{entry['floor_psnr']:.2f} dB"
    assert page.inner_text("#gain") == f"{budget['psnr'] - entry['floor_psnr']:+.2f} dB"
    assert page.inner_text("#image-name") == f"{NAMES[1]} (median)"
    assert page.inner_text("#image-size") == (
        f"{entry['width']} x {entry['height']} pixels, shown at 20 % of its size"
    )


def test_each_image_is_shown_grey_ones_too(page, report):
    _, pixels = report
    for number, name in enumerate(NAMES):
        page.get_by_role("radio", name=name).check()
        wait_until_shown(page, number, 1000)
        assert_shown(page, "compare", pixels[f"{number}.webp"], (0, 59))
    assert (pixels["2.webp"].std(axis=2) == 0).all()


def positions(page):
    """The position of the image in both canvases: left, top, scale."""
    return [drawn(page, id)[0] for id in ("compare", "errors")]


def test_zoom_and_pan_are_the_same_in_both_panes(page):
    compare, errors = positions(page)
    assert compare == errors
    start = compare
    box = page.locator("#errors").bounding_box()
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    page.mouse.click(x, y)
    page.mouse.wheel(0, -300)
    page.wait_for_selector("#panes.zoomed")
    compare, errors = positions(page)
    assert compare == errors
    assert compare[2] > 1.5 * start[2]
    # The point under the pointer stays there.
    under = [(box["width"] / 4 - left) / scale for left, _, scale in (start, errors)]
    assert under[0] == pytest.approx(under[1], abs=0.5)
    page.mouse.down()
    page.mouse.move(x + 50, y + 20, steps=4)
    page.mouse.up()
    moved = positions(page)
    assert moved[0] == moved[1]
    assert moved[0][0] == pytest.approx(compare[0] + 50, abs=2)
    assert moved[0][1] == pytest.approx(compare[1] + 20, abs=2)
    page.get_by_role("button", name="Fit").click()
    assert positions(page) == [start, start]


def test_the_wheel_scrolls_the_page_before_a_pane_is_chosen(page):
    start = positions(page)
    page.locator("#compare-pane").hover()
    before = page.evaluate("scrollY")
    page.mouse.wheel(0, 200)
    for _ in range(200):
        if page.evaluate("scrollY") > before:
            break
        page.wait_for_timeout(20)
    assert page.evaluate("scrollY") > before
    assert positions(page) == start


def test_two_fingers_zoom_both_panes(browser, report):
    size = {"width": 360, "height": 800}
    with opened(browser, report[0], viewport=size, has_touch=True) as page:
        wait_until_shown(page, 0, 1000)
        page.locator("#compare").scroll_into_view_if_needed()
        start = positions(page)
        box = page.locator("#compare").bounding_box()
        x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
        session = page.context.new_cdp_session(page)
        for kind, apart in (("Start", 20), ("Move", 30), ("Move", 45), ("Move", 60)):
            points = [{"x": x - apart / 2, "y": y, "id": 1}, {"x": x + apart / 2, "y": y, "id": 2}]
            session.send(
                "Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points}
            )
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.wait_for_selector("#panes.zoomed")
        after = positions(page)
        assert after[0] == after[1]
        assert after[0][2] > 2 * start[0][2]


def test_the_divider_is_dragged(page, report):
    _, pixels = report
    box = page.locator("#compare").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    assert page.get_attribute("#divider", "aria-valuenow") == "25"
    assert_shown(page, "compare", pixels["0.webp"], (0, 29))
    assert_shown(page, "compare", pixels["0-1000.webp"], (31, 120))


def test_the_keyboard_is_enough(page, report):
    _, pixels = report
    focused = "document.activeElement.id || document.activeElement.name"
    page.get_by_role("radio", name=NAMES[0]).focus()
    page.keyboard.press("ArrowRight")
    wait_until_shown(page, 1, 1000)
    order = []
    for _ in range(3):
        page.keyboard.press("Tab")
        order.append(page.evaluate(focused))
    assert order == ["budget", "compare-pane", "divider"]
    for key in ("End", "ArrowLeft", "PageDown"):
        page.keyboard.press(key)
    assert page.get_attribute("#divider", "aria-valuenow") == "88"
    assert page.get_attribute("#divider", "aria-valuetext") == "88 % original, 12 % reconstruction"
    assert_shown(page, "compare", pixels["1.webp"], (0, 104))
    page.keyboard.press("Shift+Tab")
    start = positions(page)
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    zoomed = positions(page)
    assert zoomed[0] == zoomed[1]
    assert zoomed[0][2] == pytest.approx(1.5 * start[0][2])
    assert zoomed[0][0] < start[0][0]
    page.keyboard.press("0")
    assert positions(page) == start
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_everything_has_a_name_for_screen_readers(page):
    for role, name in (
        ("slider", "Epochs"),
        ("slider", "Divider"),
        ("button", "Zoom in"),
        ("button", "Zoom out"),
        ("img", "a<b>.png: original on the left, 1,000 epochs on the right"),
        ("img", "a<b>.png: error at 1,000 epochs"),
        ("navigation", "Sections"),
        ("table", "Quality by budget; PSNR and differences in dB"),
    ):
        assert page.get_by_role(role, name=name, exact=True).count() == 1, name
    assert page.get_by_role("main").count() == 1
    unnamed = "[...document.querySelectorAll('svg[role=img]')].filter(e => !e.ariaLabel).length"
    assert page.evaluate(unnamed) == 0


def test_text_of_figures_is_selected_as_text(page):
    selected = page.evaluate("""() => {
      const text = [...document.querySelectorAll("svg.figure.wide text")]
        .find((element) => element.textContent === "chosen");
      getSelection().selectAllChildren(text);
      return [getSelection().toString(), getComputedStyle(text).fontFamily];
    }""")
    assert selected == ["chosen", page.evaluate("getComputedStyle(document.body).fontFamily")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
def test_nothing_sticks_out_on_any_screen(browser, report, width, scheme):
    size = {"width": width, "height": 900}
    with opened(browser, report[0], viewport=size, color_scheme=scheme) as page:
        wait_until_shown(page, 0, 1000)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        shown = [
            page.locator(f"svg.figure.{name}").first.is_visible() for name in ("wide", "narrow")
        ]
        assert shown == [width > 820, width <= 820]
        figure = page.locator("svg.figure:visible").first
        sizes = figure.evaluate("e => e.getBoundingClientRect().width / e.viewBox.baseVal.width")
        assert 0.85 <= sizes <= 1.5
        ink, ground = page.evaluate("""() => [
          getComputedStyle(document.querySelector("svg.figure text")).fill,
          getComputedStyle(document.body).backgroundColor]""")
        bright = [sum(map(int, colour[4:-1].split(","))) / 765 for colour in (ink, ground)]
        assert (bright[0] > bright[1]) == (scheme == "dark")


def test_it_prints_light_with_every_detail_and_without_controls(browser, report):
    with opened(browser, report[0], color_scheme="dark") as page:
        wait_until_shown(page, 0, 1000)
        page.emulate_media(media="print", color_scheme="dark")
        colour = "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(colour) == "rgb(255, 255, 255)"
        assert page.get_by_role("table", name="Quarantined files and reasons").is_visible()
        assert page.locator("#compare").is_visible()
        assert not page.locator("#budget").is_visible()
        assert not page.get_by_role("navigation").is_visible()
        assert len(page.pdf(format="A4")) > 100_000


def test_without_scripts_the_images_stand_in_rows(browser, report):
    with opened(browser, report[0], java_script_enabled=False) as page:
        assert not page.locator("#viewer").is_visible()
        for text in (
            "a<b>.png, original",
            "a<b>.png at 10 epochs",
            "grey.png, error at 2000 epochs",
        ):
            assert page.locator(f'#static svg[aria-label="{text}"]').is_visible()


@pytest.mark.parametrize("budgets", [(10,), (1, 10)])
def test_a_page_of_few_budgets_and_no_run(browser, tmp_path, photographs, budgets):
    make_pictures(tmp_path, photographs[:1], budgets, side=64)
    comparison = make_comparison(budgets, intervals=False, full=False)
    write_report(Comparison.model_validate(comparison), tmp_path, tmp_path / "report.html")
    with opened(browser, tmp_path / "report.html") as page:
        wait_until_shown(page, 0, budgets[0])
        assert page.is_disabled("#budget") == (len(budgets) == 1)
        assert page.get_by_role("heading", name="The best image").count() == 1


def test_a_page_without_pictures_and_with_a_thousand_slices(browser, tmp_path):
    comparison = Comparison.model_validate(make_comparison(labels=1000))
    write_report(comparison, None, tmp_path / "report.html")
    with opened(browser, tmp_path / "report.html", viewport={"width": 360, "height": 800}) as page:
        assert page.locator("#viewer").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.get_by_text("more slices").last.click()
        assert page.get_by_role("row", name="label 999").first.is_visible()
