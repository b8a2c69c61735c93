import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.runs import ENVIRONMENT, FLAGS, IN_PROCESS, Run
from tests.endurance.kills import photographs
from tests.forks import Forks, forking


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    environment = {**ENVIRONMENT, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "1"}
    with forking({**os.environ, **environment}) as forks:
        yield forks


@pytest.fixture(scope="session")
def start(forks) -> Callable:
    """Starts a run in a fork, which checks in process what it is about to push."""
    return partial(forks.start, before=IN_PROCESS)


@pytest.fixture(scope="session")
def finished(once) -> Path:
    """A folder with `images`, the `root` of a run on them that has ended, and `run.pickle`.

    It is a copy, for all to read. The run was in the folder `first` beside it, where it goes on.
    """

    def make(place: Path) -> None:
        first = place.with_name("first")
        shutil.rmtree(first, ignore_errors=True)
        put_images(photographs(first / "images"))
        run = Run(first, *FLAGS)
        assert run.status == 0, run.errors
        shutil.copytree(first, place)
        (place / "run.pickle").write_bytes(pickle.dumps(run))

    return once("finished", make)


def put_images(images: Path) -> None:
    """Makes images of several kinds, some in a folder of their own, and a broken one."""
    (images / "more").mkdir()
    Image.open(images / "coins.png").convert("RGBA").save(images / "more" / "coins.webp")
    Image.open(images / "rocket.png").save(images / "more" / "rocket.jpg", quality=95)
    (images / "coins.png").unlink()
    (images / "rocket.png").unlink()
    (images / "broken.png").write_bytes((images / "moon.png").read_bytes()[:2000])
