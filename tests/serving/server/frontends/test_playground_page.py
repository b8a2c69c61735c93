"""The playground as a page: layout, keyboard, other models, and a server that restarts."""

import contextlib
import re

import pytest

from tests.serving.server.frontends.browsing import (
    contrast,
    drop,
    opened,
    wait_for_result,
)


def choose(page, path) -> None:
    """Opens the focused file input with the space bar and takes a file."""
    from playwright.sync_api import TimeoutError

    for _ in range(5):
        # On a busy machine headless Chromium sometimes opens no dialog at the first press.
        try:
            with page.expect_file_chooser(timeout=6000) as chooser:
                page.keyboard.press("Space")
        except TimeoutError:
            continue
        chooser.value.set_files(path)
        return
    raise AssertionError("the space bar opens no dialog")


def test_the_keyboard_is_enough(fresh_page, photograph, png, tmp_path):
    page = fresh_page
    (tmp_path / "photo.png").write_bytes(png(photograph))
    focused = "document.activeElement.id"
    order = []
    for _ in range(3):
        page.keyboard.press("Tab")
        order.append(page.evaluate(focused))
    assert order == ["model", "version", "file"]
    choose(page, tmp_path / "photo.png")
    wait_for_result(page)
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "split"
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("document.querySelector('#reconstruction').style.clipPath") == (
        "inset(0px 0px 0px 10%)"
    )
    outline = "getComputedStyle(document.querySelector('#split')).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "save"
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "reconstruction.png"


def test_everything_has_a_name_for_screen_readers(page, photograph, png):
    drop(page, png(photograph))
    wait_for_result(page)
    assert page.get_by_role("combobox", name="Model").count() == 1
    assert page.get_by_role("combobox", name="Version").count() == 1
    slider = page.get_by_role("slider", name="How much of the original is shown")
    assert slider.count() == 1
    for name in ("The original image", "The reconstruction", "Error map"):
        assert page.get_by_role("img", name=name).count() == 1
    assert page.get_by_label("Choose an image").count() >= 1
    assert page.get_by_role("status").inner_text().startswith("photo.png was reconstructed")


@pytest.fixture(scope="module")
def page_with_a_long_name(browser, rest_server, photograph, png):
    with opened(browser, rest_server.url) as page:
        drop(page, png(photograph), "a_very_long_name_without_any_space" * 4 + ".png")
        wait_for_result(page)
        yield page


@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_all_screen_widths_with_enough_contrast(page_with_a_long_name, width, scheme):
    page = page_with_a_long_name
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("innerWidth") == width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    assert contrast(page, "body", "#verdict") > 4.5
    assert contrast(page, "#note", "body") > 4.5
    assert contrast(page, "#sizes-note", ".card") > 4.5
    assert contrast(page, "#button", "#button") > 4.5


def test_the_page_can_only_connect_to_its_server(browser, rest_server):
    answer = rest_server.client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert answer.headers["cache-control"] == "no-cache"
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg", "", answer.text)
    context = browser.new_context()
    page = context.new_page()
    page.goto(rest_server.url)
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate("""() => {
          const script = document.createElement("script");
          script.textContent = "window.intruder = 1";
          document.body.append(script);
        }""")
    assert page.evaluate("window.intruder === undefined")
    context.close()


def bounds(page, selector):
    return page.locator(selector).bounding_box()


def test_an_empty_page_is_filled_and_a_result_needs_no_scrolling(fresh_page, photograph, png):
    page = fresh_page
    page.set_viewport_size({"width": 1280, "height": 900})
    box = bounds(page, "#drop")
    assert box["y"] + box["height"] > 850
    for turned in (photograph, photograph.swapaxes(0, 1)):
        drop(page, png(turned))
        wait_for_result(page)
        pictures = [bounds(page, f"#{id}") for id in ("original", "reconstruction", "error-map")]
        verdict = bounds(page, "#verdict")
        assert verdict["y"] + verdict["height"] < pictures[0]["y"]
        assert len({box["y"] for box in pictures}) == 1
        assert page.evaluate("document.documentElement.scrollHeight") <= 900


def test_a_phone_shows_the_answer_first_and_offers_its_photos(
    browser, rest_server, photograph, png
):
    options = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    with opened(browser, rest_server.url, **options) as page:
        assert page.inner_text("#button") == "Choose a photo"
        assert bounds(page, "#button")["height"] >= 44
        assert page.get_attribute("#file", "accept") == "image/*"
        drop(page, png(photograph))
        wait_for_result(page)
        original, reconstruction = bounds(page, "#original"), bounds(page, "#reconstruction")
        assert bounds(page, "#psnr")["y"] < original["y"] == reconstruction["y"] < 500
        assert bounds(page, "#button")["height"] >= 44


def test_a_model_of_another_kind_is_described_and_the_others_work(
    browser, mixed_server, photograph, png
):
    with opened(browser, mixed_server.running.rest) as page:
        page.select_option("#model", "adder")
        page.wait_for_selector("#problem:not([hidden])")
        text = page.inner_text("#problem")
        assert text.startswith("adder is no autoencoder of keras-ae, so this page cannot show it.")
        assert "count (steps → total)" in text
        drop(page, png(photograph))
        page.wait_for_selector("#problem:not([hidden])")
        assert page.inner_text("#problem") == text
        page.select_option("#model", "few")
        wait_for_result(page)
        assert not page.is_visible("#problem")


GONE = "The server does not answer. Is it still running? This page asks again by itself."
HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
}"""


@pytest.fixture
def offline_page(browser, rest_server, photograph, png):
    """A page with an image, whose server has gone, and its context."""
    with contextlib.closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(rest_server.url)
        page.wait_for_selector("#version option", state="attached")
        context.set_offline(True)
        drop(page, png(photograph))
        page.wait_for_selector("#problem:not([hidden])")
        assert page.inner_text("#problem") == GONE
        yield page, context


def test_a_page_asks_again_until_the_server_is_back(offline_page):
    page, context = offline_page
    page.wait_for_event("requestfailed")
    assert page.inner_text("#problem") == GONE
    context.set_offline(False)
    wait_for_result(page)
    assert not page.is_visible("#problem")


def test_a_page_that_nobody_sees_asks_when_it_is_looked_at(offline_page):
    page, context = offline_page
    page.evaluate(HIDE, True)
    context.set_offline(False)
    requests = []
    page.on("request", lambda request: requests.append(request))
    page.wait_for_timeout(1500)
    assert requests == []
    page.evaluate(HIDE, False)
    wait_for_result(page)
