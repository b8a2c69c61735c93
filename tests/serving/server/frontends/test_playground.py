"""What the playground shows of an image, in Chromium."""

import base64
import io
import math
import re

import numpy as np
import pytest

from tests.serving.server.conftest import ODD_NAME
from tests.serving.server.frontends.browsing import drop, opened, pixels, wait_for_result


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
    assert page.evaluate(clip) == "inset(0px 0px 0px 0%)"
    box = page.locator("#split").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.2, box["y"] + box["height"] / 2)
    share = float(re.search(r"([\d.]+)%", page.evaluate(clip))[1])
    assert share == pytest.approx(20, abs=4)
    text = page.get_attribute("#split", "aria-valuetext")
    assert text == f"{share:.0f} % original, {100 - share:.0f} % reconstruction"


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
    assert page.inner_text("#map-words") == f"{error.mean():.1f} grey levels on average"


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
    assert verdict.inner_text() == "Unusual: reconstructed worse than all 200 validation images."
    assert "unusual" in verdict.get_attribute("class")
    drop(page, png(photograph))
    wait_for_result(page)
    page.wait_for_selector("#verdict:not(.unusual)")
    assert re.fullmatch(
        r"Nothing unusual: reconstructed worse than \d+ % of the 200 validation images\.",
        verdict.inner_text(),
    )


@pytest.mark.parametrize(
    ("percentile", "count", "verdict"),
    [
        (0, 200, "Nothing unusual: reconstructed at least as well as all 200 validation images."),
        (0.005, 2000, "less than 1 % of the 2,000 validation images."),
        (0.995, 2000, "Unusual: reconstructed worse than 99 % of the 2,000 validation images."),
        (0.5, 1, "it is reconstructed worse than the only validation image, but 99 are needed."),
        (
            0.25,
            3,
            "it is reconstructed worse than 1 of the 3 validation images, but 99 are needed.",
        ),
        (0.75, 0, "does not say how many validation images the percentile is of (99 are needed)."),
        (0.99, 0, "Unusual: reconstructed worse than 99 % of the validation images."),
    ],
)
def test_the_verdict_says_what_the_validation_images_allow(page, percentile, count, verdict):
    text = page.evaluate("([percentile, n]) => verdictOn(percentile, n)", [percentile, count])
    assert text.endswith(verdict)
    assert text.startswith("Cannot tell") == (count < 99 and percentile < 0.99)


def test_noise_is_not_called_usual_by_a_model_with_few_val_images(browser, mixed_server, png):
    noise = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (64, 64, 3))
    with opened(browser, mixed_server.running.rest) as page:
        page.select_option("#model", "few")
        drop(page, png(noise))
        wait_for_result(page)
        assert page.inner_text("#verdict") == (
            "Cannot tell whether this image is unusual: it is reconstructed worse than all 4 "
            "validation images, but 99 are needed."
        )


def test_a_grey_model_is_shown_with_the_grey_that_it_sees(browser, mixed_server, photograph, png):
    from PIL import Image

    with opened(browser, mixed_server.running.rest) as page:
        page.select_option("#model", "grey")
        drop(page, png(photograph))
        wait_for_result(page)
        grey = np.asarray(Image.fromarray(photograph).convert("L")).astype(int)
        shown = pixels(page, "original")
        assert np.abs(shown - grey[..., None]).max() <= 1
        assert "without the errors of validation images" in page.inner_text("#verdict")


def test_a_second_image_replaces_the_first_before_it_is_answered(page, photograph, png):
    drop(page, png(np.tile(photograph, (8, 8, 1))), "first.png")
    drop(page, png(photograph), "second.png")
    wait_for_result(page)
    assert page.inner_text("#note") == "second.png was reconstructed by version 2."
    assert page.inner_text("#dimensions") == "160 x 120 pixels"


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
