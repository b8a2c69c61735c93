"""The playground in Chromium: what its tests do with a page."""

import base64
import contextlib
import re

import numpy as np

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
def opened(browser, url, **options):
    """The page with its list of versions; fails at the end if the console has an error."""
    context = browser.new_context(**options)
    page = context.new_page()
    errors = []

    def record_error(message):
        if message.type == "error":
            errors.append(message.text)

    page.on("console", record_error)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    page.wait_for_selector("#version option", state="attached")
    yield page
    context.close()
    assert errors == []


def drop(page, data, name="photo.png"):
    page.evaluate(DROP, [base64.b64encode(data).decode(), name])


def wait_for_result(page):
    page.wait_for_selector("#result[data-version]", timeout=60_000)


def pixels(page, id):
    height, width, values = page.evaluate(PIXELS, id)
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


def contrast(page, text, back):
    """The WCAG 2 contrast ratio between an element's text colour and another one's background."""

    def luminance(selector, style):
        colour = page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).{style}")
        levels = np.array([int(level) for level in re.findall(r"\d+", colour)[:3]]) / 255
        linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(text, "color"), luminance(back, "backgroundColor")))
    return (high + 0.05) / (low + 0.05)
