import base64
import contextlib
import io
import math
import re

import numpy as np
import pytest

from tests.serving.server.conftest import ODD_NAME

DROP = """([data, name]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  document.querySelector("#drop").dispatchEvent(
    new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""
PIXELS = """(id) => {
  const canvas = document.getElementById(id);
  const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return [all.height, all.width, Array.from(all.data)];
}"""


@contextlib.contextmanager
def opened(browser, server):
    """The page with its list of versions; fails at the end if the console has an error."""
    context = browser.new_context()
    page = context.new_page()
    errors = []

    def record_error(message):
        if message.type == "error":
            errors.append(message.text)

    page.on("console", record_error)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    page.wait_for_selector("#version option", state="attached")
    yield page
    context.close()
    assert errors == []


@pytest.fixture(scope="module")
def page(browser, rest_server):
    """A page that tests share; each drops another image."""
    with opened(browser, rest_server) as page:
        yield page


@pytest.fixture
def fresh_page(browser, rest_server):
    with opened(browser, rest_server) as page:
        yield page


def drop(page, data, name="photo.png"):
    page.evaluate(DROP, [base64.b64encode(data).decode(), name])


def wait_for_result(page):
    page.wait_for_selector("#result[data-version]", timeout=60_000)


def pixels(page, id):
    height, width, values = page.evaluate(PIXELS, id)
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


def predict(server, data, model="keras_ae"):
    body = {"instances": [{"b64": base64.b64encode(data).decode()}]}
    [row] = server.predict(body, f"/v1/models/{model}:predict").json()["predictions"]
    return row


def displayed_scores(page):
    return {name: page.inner_text(f"#{name}") for name in ("psnr", "ssim", "mse", "percentile")}


def test_a_dropped_image_is_shown_with_its_reconstruction_and_scores(
    page, rest_server, photograph, png
):
    from PIL import Image

    drop(page, png(photograph))
    wait_for_result(page)
    row = predict(rest_server, png(photograph))
    assert displayed_scores(page) == {
        "psnr": f"{row['psnr']:.2f} dB",
        "ssim": f"{row['ssim']:.4f}",
        "mse": f"{row['mse']:#.3g}",
        "percentile": f"{math.floor(row['percentile'] * 1000) / 10:g} %",
    }
    np.testing.assert_array_equal(pixels(page, "original"), photograph)
    data = base64.b64decode(row["reconstruction_png_bytes"]["b64"])
    np.testing.assert_array_equal(
        pixels(page, "reconstruction"), np.asarray(Image.open(io.BytesIO(data)))
    )
    assert page.inner_text("#note") == "photo.png was reconstructed by version 2."
    assert page.inner_text("#dimensions") == "160 x 120 pixels"


def test_the_slider_reveals_the_reconstruction(fresh_page, photograph, png):
    page = fresh_page
    drop(page, png(photograph))
    wait_for_result(page)
    clip = "document.querySelector('#reconstruction').style.clipPath"
    assert page.evaluate(clip) == "inset(0px 0px 0px 50%)"
    box = page.locator("#compare").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.2, box["y"] + box["height"] / 2)
    share = float(re.search(r"([\d.]+)%", page.evaluate(clip))[1])
    assert share == pytest.approx(20, abs=1)
    assert page.get_attribute("#split", "aria-valuetext") == "20 % original, 80 % reconstruction"


def test_the_error_map_is_bright_where_the_images_differ(page, photograph, png):
    drop(page, png(photograph))
    wait_for_result(page)
    original, reconstruction = pixels(page, "original"), pixels(page, "reconstruction")
    error = np.abs(original.astype(int) - reconstruction).mean(-1)
    # Along the scale from dark blue to yellow, red only grows.
    red = pixels(page, "error-map")[..., 0].astype(int)
    top = int(re.search(r"\d+", page.inner_text("#legend-top"))[0])
    assert red[error < 0.5].max() == 0x00
    assert red[error >= top + 0.5].min() == 0xFE
    middle = (error > 1) & (error < top - 1)
    assert np.corrcoef(error[middle], red[middle])[0, 1] > 0.9
    assert page.inner_text("#map-words") == f"On average {error.mean():.1f} grey levels."


def test_the_sizes_compare_latent_file_and_pixels(page, photograph, png):
    data = png(photograph[:101, :77])
    drop(page, data)
    wait_for_result(page)
    # 13 x 10 x 8 numbers of four bytes, against 101 x 77 x 3.
    assert page.inner_text("#raw-size") == "23.3 kB"
    assert page.inner_text("#latent-size") == "4.2 kB"
    assert page.inner_text("#file-size") == f"{len(data) / 1000:.1f} kB"
    assert page.inner_text("#sizes-note") == (
        "The latent has 1,040 values (13 x 10 x 8), 1/22 of the 23,331 of the image."
    )


def test_version_and_model_can_be_selected(fresh_page, photograph, png):
    page = fresh_page
    drop(page, png(photograph))
    wait_for_result(page)
    assert page.locator("#version option").all_inner_texts() == ["2 (newest)", "1"]
    with page.expect_request("**/v1/models/keras_ae/versions/1:predict"):
        page.select_option("#version", "1")
    page.wait_for_selector("#result[data-version='1']")
    assert page.inner_text("#note") == "photo.png was reconstructed by version 1."
    assert page.locator("#model option").all_inner_texts() == ["keras_ae", ODD_NAME]
    page.select_option("#model", ODD_NAME)
    page.wait_for_selector("#result[data-version='5']", timeout=60_000)
    assert page.locator("#version option").all_inner_texts() == ["5 (newest)"]


def test_an_unusual_image_is_flagged_and_a_usual_one_is_not(page, photograph, png):
    noise = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (64, 64, 3))
    drop(page, png(noise))
    wait_for_result(page)
    verdict = page.locator("#verdict")
    assert verdict.inner_text() == ("unusual: the error percentile is at least 99 %")
    assert "unusual" in verdict.get_attribute("class")
    drop(page, png(photograph))
    wait_for_result(page)
    page.wait_for_selector("#verdict:not(.unusual)")
    assert "nothing unusual" in verdict.inner_text()


def test_a_score_that_is_not_a_number_is_not_available(page, photograph, png):
    drop(page, png(photograph[:4, :4]))
    wait_for_result(page)
    assert page.inner_text("#ssim") == "not available"
    assert page.inner_text("#psnr").endswith(" dB")


def test_a_broken_image_shows_a_message_and_the_next_image_its_result(page, photograph, png):
    data = png(photograph)
    drop(page, data[: len(data) // 2], "half.png")
    page.wait_for_selector("#problem:not([hidden])", timeout=60_000)
    assert page.inner_text("#problem") == (
        "half.png cannot be reconstructed: cannot be decoded: truncated or corrupt."
    )
    assert not page.is_visible("#result")
    drop(page, b"text", "<b>notes.txt")
    page.wait_for_selector("#problem:has-text('notes')")
    assert page.inner_text("#problem") == (
        "<b>notes.txt cannot be reconstructed: not a PNG, JPEG, BMP, GIF or WebP image."
    )
    drop(page, data)
    wait_for_result(page)
    assert not page.is_visible("#problem")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_of_a_camera_is_applied_to_what_is_sent(page, photograph, kind):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95}
    Image.fromarray(photograph).save(file, kind, exif=exif, **options)
    drop(page, file.getvalue(), "camera")
    wait_for_result(page)
    assert page.inner_text("#dimensions") == "120 x 160 pixels"
    assert page.is_visible("#map-card")
    shown = pixels(page, "original")
    turned = np.rot90(photograph, -1)
    if kind == "JPEG":
        assert np.abs(shown.astype(int) - turned).mean() < 4
    else:
        np.testing.assert_array_equal(shown, turned)


def test_alpha_is_shown_and_sent_over_white(page, photograph):
    from PIL import Image

    image = Image.fromarray(photograph)
    mask = Image.fromarray(np.where(np.arange(160) < 80, 0, 255).astype(np.uint8)[None])
    image.putalpha(mask.resize(image.size))
    for kind, name in (("PNG", "half.png"), ("GIF", "half.gif")):
        file = io.BytesIO()
        image.save(file, kind)
        drop(page, file.getvalue(), name)
        page.wait_for_selector(f"#note:has-text('{name} was')")
        shown = pixels(page, "original")
        assert (shown[:, :80] == 255).all()
        assert np.abs(shown[:, 80:].astype(int) - photograph[:, 80:]).mean() < 40
        # The reconstruction is of what is shown.
        assert pixels(page, "reconstruction")[:, :72].mean() > 230


def test_16_bits_are_shown_with_the_levels_of_the_model(page, photograph):
    from PIL import Image

    grey = photograph[..., 1].astype(np.uint16) * 257
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    drop(page, file.getvalue(), "deep.png")
    page.wait_for_selector("#note:has-text('deep.png was')")
    assert page.is_visible("#map-card")
    np.testing.assert_array_equal(pixels(page, "original")[..., 0], photograph[..., 1])


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
        "inset(0px 0px 0px 60%)"
    )
    outline = "getComputedStyle(document.querySelector('#compare')).outlineStyle"
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
    with opened(browser, rest_server) as page:
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
    assert contrast(page, "#sizes-note", ".card") > 4.5
    assert contrast(page, "#button", "#button") > 4.5


def contrast(page, text, back):
    """The WCAG 2 contrast ratio between an element's text colour and another one's background."""

    def luminance(selector, style):
        colour = page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).{style}")
        levels = np.array([int(level) for level in re.findall(r"\d+", colour)[:3]]) / 255
        linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(text, "color"), luminance(back, "backgroundColor")))
    return (high + 0.05) / (low + 0.05)


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


def test_an_unreachable_server_shows_a_message(browser, rest_server, photograph, png):
    context = browser.new_context()
    page = context.new_page()
    page.goto(rest_server.url)
    page.wait_for_selector("#version option", state="attached")
    context.set_offline(True)
    drop(page, png(photograph))
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem") == "The server does not answer. Is it still running?"
    context.set_offline(False)
    drop(page, png(photograph))
    wait_for_result(page)
    assert not page.is_visible("#problem")
    context.close()
