import io
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """Three photographs, uint8 [H, W, 3]."""
    from keras_ae.datasets.sample_photos import path_of

    names = ("skimage/chelsea.png", "skimage/coffee.png", "sklearn/china.jpg")
    return [np.asarray(Image.open(path_of(name)).convert("RGB")) for name in names]


@pytest.fixture(scope="session")
def encode():
    """Encodes a uint8 array or a Pillow image: encode(pixels, "PNG", **options) -> bytes."""

    def encoded(pixels, kind: str, **options) -> bytes:
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.squeeze(pixels))
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return encoded


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, driven by Playwright; what needs it is skipped where there is none."""
    from playwright.sync_api import sync_playwright

    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    path = next(found, None)
    if path is None:
        pytest.skip("there is no Chromium here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
