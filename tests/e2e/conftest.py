from pathlib import Path

import pytest
from PIL import Image

from keras_ae.datasets.sample_photos import SPLITS, path_of


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a folder of images of several kinds in it."""
    place = tmp_path_factory.mktemp("e2e")
    (place / "images" / "more").mkdir(parents=True)
    for name in (name for names in SPLITS.values() for name in names):
        image = Image.open(path_of(name)).convert("RGB").resize((160, 120))
        image.save(place / "images" / f"{Path(name).stem}.png")
    images = place / "images"
    Image.open(images / "coins.png").convert("RGBA").save(images / "more" / "coins.webp")
    Image.open(images / "rocket.png").save(images / "more" / "rocket.jpg", quality=95)
    (images / "coins.png").unlink()
    (images / "rocket.png").unlink()
    (images / "broken.png").write_bytes((images / "moon.png").read_bytes()[:2000])
    return place
