import fcntl
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import durations
from tests.gcs import Bucket, serve_bucket

ROOT = Path(__file__).parents[1]
_UNOPTIMIZED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Lets processes of one session share JAX's compiled programs."""
    folder = tempfile.TemporaryDirectory(prefix="jax-compiled-")
    config.add_cleanup(folder.cleanup)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders files by duration, the slowest first, so that workers end together, and marks them."""
    seconds = {ROOT / path: duration for path, duration in durations.read().items()}
    items.sort(key=lambda item: -seconds.get(item.path, 0))
    for item in items:
        if item.path in seconds:
            item.add_marker("slow")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Switches TensorFlow's graph optimization (Grappler) off, once it is imported.

    It takes seconds for each signature and changes results by rounding only. Programs that tests
    start optimize their graphs as usual, and so does this process in tests with `optimized_graphs`,
    which those need that compare bits with such a program.
    """
    if "tensorflow" in sys.modules and not item.session.stash.get(_UNOPTIMIZED, False):
        _optimize_graphs(False)
        item.session.stash[_UNOPTIMIZED] = True


def _optimize_graphs(on: bool) -> None:
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not on})


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Creates a folder once for all workers of the session: once(name, make) -> folder.

    The function `make` receives the path of a folder that does not exist yet and has to create it.
    Other workers that need the folder meanwhile wait. Tests must not change what is in it, because
    they share it.
    """
    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent

    def create(name: str, make: Callable[[Path], None]) -> Path:
        folder = common / "shared" / name
        folder.parent.mkdir(exist_ok=True)
        with folder.with_name(f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                partial = folder.with_name(f"{name}.partial")
                shutil.rmtree(partial, ignore_errors=True)
                make(partial)
                partial.rename(folder)
        return folder

    return create


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """Three photographs, uint8 [H, W, 3]."""
    from keras_ae.datasets.sources.sample_photos import path_of

    names = ("skimage/chelsea.png", "skimage/coffee.png", "sklearn/china.jpg")
    return [np.asarray(Image.open(path_of(name)).convert("RGB")) for name in names]


@pytest.fixture(scope="session")
def tiny_model(once, photographs) -> Callable[..., Path]:
    """The folder of a Model artifact: tiny_model(name="plain", channels=3) -> folder.

    The names are those of `tests.tiny.write_models`.
    """
    from tests import tiny

    def write_once(name: str = "plain", channels: int = 3) -> Path:
        images = [photograph[..., :channels] for photograph in photographs]
        return once(f"tiny-{channels}", lambda folder: tiny.write_models(folder, images)) / name

    return write_once


@pytest.fixture
def optimized_graphs() -> Iterator[None]:
    """Switches TensorFlow's graph optimization on, as it is where models are served."""
    _optimize_graphs(True)
    yield
    _optimize_graphs(False)


@pytest.fixture(scope="session")
def encode():
    """Encodes a uint8 array or a Pillow image: encode(pixels, "PNG", **options) -> bytes."""

    from tests.corpus.pictures import encoded

    def encode(pixels, kind: str, **options) -> bytes:
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.squeeze(pixels))
        return encoded(image, kind, **options)

    return encode


@pytest.fixture
def write_examples(tmp_path, encode):
    """Writes images in two files of tf.Examples: write_examples(images) -> pattern, PNG files."""
    import tensorflow as tf

    from keras_ae.datasets.sources.base import Record
    from pipeline.components.image_example_gen.writing import to_example

    def write(images):
        pngs = [encode(image, "PNG") for image in images]
        for part in (0, 1):
            path = str(tmp_path / f"part-{part}.gz")
            with tf.io.TFRecordWriter(path, options="GZIP") as writer:
                for i in range(part, len(images), 2):
                    writer.write(to_example(Record(f"{i}.png", pngs[i]), images[i].shape[2]))
        return str(tmp_path / "part-*.gz"), pngs

    return write


@pytest.fixture(scope="module")
def bucket(tmp_path_factory) -> Iterator[Bucket]:
    """An empty bucket of Google Cloud Storage for this process and those that it starts.

    Each bucket has a name of its own, because TensorFlow caches objects by name.
    """
    folder = tmp_path_factory.mktemp("bucket")
    name = f"bucket-{uuid.uuid4().hex}"
    with serve_bucket(folder, name) as bucket, pytest.MonkeyPatch.context() as patch:
        for variable, value in bucket.environment.items():
            patch.setenv(variable, value)
        yield bucket


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, driven by Playwright; tests are skipped where it is not installed."""
    from playwright.sync_api import sync_playwright

    paths = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    path = next(paths, None)
    if path is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
