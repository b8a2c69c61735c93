import fcntl
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import durations
from tests.gcs import Bucket, serving

ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """What JAX compiles in one process is kept for those that this one starts later."""
    folder = tempfile.TemporaryDirectory(prefix="jax-compiled-")
    config.add_cleanup(folder.cleanup)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that the workers end together; and it is marked."""
    seconds = {ROOT / path: taken for path, taken in durations.read().items()}
    items.sort(key=lambda item: -seconds.get(item.path, 0))
    for item in items:
        if item.path in seconds:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """A folder that is made once for all workers of the session: once(name, make) -> folder.

    `make` is given a folder that does not exist yet. Whoever asks while another worker makes it
    waits. What is there is shared, so that nobody may change it.
    """
    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent

    def shared(name: str, make: Callable[[Path], None]) -> Path:
        place = common / "shared" / name
        place.parent.mkdir(exist_ok=True)
        with place.with_name(f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not place.exists():
                partial = place.with_name(f"{name}.partial")
                shutil.rmtree(partial, ignore_errors=True)
                make(partial)
                partial.rename(place)
        return place

    return shared


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """Three photographs, uint8 [H, W, 3]."""
    from keras_ae.datasets.sources.sample_photos import path_of

    names = ("skimage/chelsea.png", "skimage/coffee.png", "sklearn/china.jpg")
    return [np.asarray(Image.open(path_of(name)).convert("RGB")) for name in names]


@pytest.fixture(scope="session")
def tiny_model(once, photographs) -> Callable[..., Path]:
    """A Model artifact's folder: tiny_model(channels=3, lively=False), as `tests.tiny.make`."""
    from tests import tiny

    def made(channels: int = 3, *, lively: bool = False) -> Path:
        images = [photograph[..., :channels] for photograph in photographs]
        name = f"tiny-model-{channels}-{lively}"
        return once(name, lambda folder: tiny.make(folder, images, lively=lively))

    return made


@pytest.fixture(scope="module")
def as_written() -> Iterator[None]:
    """TensorFlow's graphs are computed operation by operation, without what Grappler makes of them:
    that takes seconds for each signature, and the answers are the same."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


@pytest.fixture(scope="session")
def encode():
    """Encodes a uint8 array or a Pillow image: encode(pixels, "PNG", **options) -> bytes."""

    def encoded(pixels, kind: str, **options) -> bytes:
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.squeeze(pixels))
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return encoded


@pytest.fixture
def write_examples(tmp_path, encode):
    """Writes images as ingest does, in two files: write_examples(images) -> pattern, PNGs."""

    import tensorflow as tf

    from keras_ae.datasets.sources.base import Record
    from pipeline.components.image_example_gen.writing import to_example

    def written(images):
        encoded = [encode(image, "PNG") for image in images]
        for part in (0, 1):
            path = str(tmp_path / f"part-{part}.gz")
            with tf.io.TFRecordWriter(path, options="GZIP") as writer:
                for i in range(part, len(images), 2):
                    writer.write(to_example(Record(f"{i}.png", encoded[i]), images[i].shape[2]))
        return str(tmp_path / "part-*.gz"), encoded

    return written


@pytest.fixture(scope="module")
def bucket(tmp_path_factory) -> Iterator[Bucket]:
    """An empty bucket of Google Cloud Storage, which this process and those that it starts reach.

    A TensorFlow that has not used a filesystem of that kind yet finds it in no time; one that has
    asked for another bucket's objects remembers nothing of them, for names differ.
    """
    folder = tmp_path_factory.mktemp("bucket")
    with serving(folder, f"bucket-{uuid.uuid4().hex}") as bucket, pytest.MonkeyPatch.context() as m:
        for name, value in bucket.environment.items():
            m.setenv(name, value)
        yield bucket


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
