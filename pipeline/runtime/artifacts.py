"""Artifacts at remote URIs, such as gs://: local copies for what needs files, uploads of what it
wrote. Local paths are used as they are, without a copy.
"""

import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from keras_ae import storage
from keras_ae.concurrency import map_in_threads
from keras_ae.storage import PathOrUri
from keras_ae.training import checkpoints

# What a Trainer leaves in its Model artifact beside the SavedModel.
MODEL: Final = Path("model.keras")
"""The model in Keras's own format, which the SavedModel has to answer as."""
STATE: Final = Path("training_state") / "state.npz"
SUMMARY: Final = Path("training_state") / "summary.json"
FLOOR: Final = Path("training_state") / "floor.npz"

PARALLEL = 8
"""Files that are copied at a time."""
PROVENANCE = Path("assets.extra") / "keras_ae.json"
"""What Pusher notes in the version that it publishes."""
LAST = "saved_model.pb"
"""What readers take for the sign of a whole SavedModel."""


def copy_folder(source: PathOrUri, target: PathOrUri) -> None:
    """Copies the files of a folder, `saved_model.pb` after all others.

    Raises:
        StorageError: if a remote one fails; some of the files may be there then.
    """
    if not storage.is_uri(source) and not storage.is_uri(target):
        shutil.copytree(source, target, dirs_exist_ok=True)
        return
    names = sorted(storage.walk_names(source))
    began = time.monotonic()

    def copy(name: str) -> None:
        storage.copy(storage.join(source, name), storage.join(target, name))

    for last in (False, True):
        chosen = [name for name in names if (storage.name(name) == LAST) is last]
        deque(map_in_threads(copy, chosen, PARALLEL), 0)
    logging.info(
        "%d files from %s to %s in %.1f s", len(names), source, target, time.monotonic() - began
    )


@contextmanager
def fetched(place: PathOrUri) -> Iterator[Path]:
    """A folder or a file to read: a local copy until the block ends, or the local path itself.

    Raises:
        StorageError: if it cannot be read.
    """
    if not storage.is_uri(place):
        yield Path(place)
        return
    with TemporaryDirectory() as folder:
        local = Path(folder) / storage.name(place)
        (copy_folder if storage.is_folder(place) else storage.copy)(place, local)
        yield local


@contextmanager
def written(folder: PathOrUri) -> Iterator[Path]:
    """A folder to write, which is made: uploaded when the block ends well, or the local one itself.

    A block that fails uploads nothing.

    Raises:
        StorageError: if it cannot be uploaded.
    """
    if not storage.is_uri(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        yield Path(folder)
        return
    with TemporaryDirectory() as local:
        yield Path(local)
        copy_folder(local, folder)


@contextmanager
def kept(place: PathOrUri) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A checkpoint that outlives this process until the block ends well, and the one before it.

    Gives a local path, where what an earlier process left is found, and a function that saves what
    is there now. A local file is saved where it is, and stays.
    """
    if not storage.is_uri(place):
        yield Path(place), lambda: None
        return
    before = storage.join(storage.parent(place), checkpoints.previous(Path(storage.name(place))))

    def save() -> None:
        if storage.exists(place):
            storage.rename(place, before)
        # An object appears when it is whole.
        storage.copy(local, place)

    with TemporaryDirectory() as folder:
        local = Path(folder) / storage.name(place)
        for remote, copy in ((place, local), (before, checkpoints.previous(local))):
            if storage.exists(remote):
                storage.copy(remote, copy)
                logging.info("resumes from %s", remote)
        yield local, save
    for remote in (place, before):
        if storage.exists(remote):
            storage.remove(remote)


def model_digest(model: Path) -> str:
    """SHA-256 over the names and contents of a SavedModel's files, but for what `publish` adds."""
    files = sorted(path for path in model.rglob("*") if path.is_file())
    return storage.sha256_of_parts(
        path.relative_to(model).as_posix().encode() + b"\0" + storage.sha256_of_file(path)
        for path in files
        if path != model / PROVENANCE
    )
