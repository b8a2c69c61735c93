"""Artifacts at remote URIs, such as gs://: local copies to read, and uploads of what was written.

Local paths are used as they are, without a copy.
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

from keras_ae import contract as c
from keras_ae import storage
from keras_ae.concurrency import map_in_threads
from keras_ae.storage import PathOrUri
from keras_ae.training import checkpoints

# Files that a Trainer writes to its Model artifact in addition to the SavedModel.
MODEL: Final = Path("model.keras")
"""The model in Keras's own format, whose predictions the SavedModel must reproduce."""
STATE: Final = Path("training_state") / "state.npz"
SUMMARY: Final = Path("training_state") / "summary.json"
FLOOR: Final = Path("training_state") / "floor.npz"

PARALLEL_COPIES = 8
"""Number of files that are copied at the same time."""
PROVENANCE = Path(c.METADATA_FILE)
"""File to which Pusher adds what a version is when it publishes it."""
LAST_FILE = "saved_model.pb"
"""File that is copied after all others: readers take a SavedModel that has it for complete."""


def copy_folder(source: PathOrUri, target: PathOrUri) -> None:
    """Copies the files of a folder. To or from a URI, `saved_model.pb` is copied last.

    Raises:
        StorageError: if a remote copy fails; the target may then have part of the files.
    """
    if not storage.is_uri(source) and not storage.is_uri(target):
        shutil.copytree(source, target, dirs_exist_ok=True)
        return
    names = sorted(storage.walk_names(source))
    start = time.monotonic()

    def copy(name: str) -> None:
        storage.copy(storage.join(source, name), storage.join(target, name))

    for last in (False, True):
        chosen = [name for name in names if (storage.name(name) == LAST_FILE) is last]
        deque(map_in_threads(copy, chosen, PARALLEL_COPIES), 0)
    seconds = time.monotonic() - start
    logging.info("%d files from %s to %s in %.1f s", len(names), source, target, seconds)


@contextmanager
def fetched(place: PathOrUri) -> Iterator[Path]:
    """Yields a local copy of a folder or a file for the block, or the place itself if it is local.

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
    """Yields a local folder to write to, and uploads it at the end of a block that succeeds.

    A local folder is created if it is missing, and used itself.

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
def checkpoint_file(place: PathOrUri) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Keeps a checkpoint, and the one before it, at a place until the block succeeds.

    Yields a local path, with the checkpoint of an earlier process if there is one, and a function
    that uploads the file at this path. A local place is used itself, and stays.
    """
    if not storage.is_uri(place):
        yield Path(place), lambda: None
        return
    before = storage.join(storage.parent(place), checkpoints.previous(Path(storage.name(place))))

    def save() -> None:
        if storage.exists(place):
            storage.rename(place, before)
        # An object in a bucket appears only when it is complete.
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
    """SHA-256 over the names and contents of a SavedModel's files, without what `publish` adds."""
    paths = sorted(p for p in model.rglob("*") if p.is_file() and p != model / PROVENANCE)
    return storage.sha256_of_parts(
        path.relative_to(model).as_posix().encode() + b"\0" + storage.sha256_of_file(path)
        for path in paths
    )
