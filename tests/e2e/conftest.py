import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.runs import CHECK_IN_PROCESS, ENVIRONMENT, FLAGS, Run
from tests.endurance.kills import write_photographs
from tests.forks import ForkServer, fork_server


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    environment = {**ENVIRONMENT, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "1"}
    with fork_server({**os.environ, **environment}) as forks:
        yield forks


@pytest.fixture(scope="session")
def start(forks) -> Callable:
    """Starts a run in a fork, whose ServingCheck compares in process, without a server."""
    return partial(forks.start, before=CHECK_IN_PROCESS)


@pytest.fixture(scope="session")
def finished(once) -> Path:
    """A folder with `images`, the `root` of a run on them that has ended, and `run.pickle`.

    It is a copy, which tests only read. The original is the folder `first` next to it, in which
    `test_run_local.py` starts further runs.
    """

    def make(folder: Path) -> None:
        first = folder.with_name("first")
        shutil.rmtree(first, ignore_errors=True)
        diversify(write_photographs(first / "images"))
        run = Run(first, *FLAGS)
        assert run.status == 0, run.errors
        shutil.copytree(first, folder)
        (folder / "run.pickle").write_bytes(pickle.dumps(run))

    return once("finished", make)


def diversify(images: Path) -> None:
    """Changes format, channels and folder of two images, and adds a truncated one."""
    (images / "more").mkdir()
    Image.open(images / "coins.png").convert("RGBA").save(images / "more" / "coins.webp")
    Image.open(images / "rocket.png").save(images / "more" / "rocket.jpg", quality=95)
    (images / "coins.png").unlink()
    (images / "rocket.png").unlink()
    (images / "broken.png").write_bytes((images / "moon.png").read_bytes()[:2000])
