import io

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
