"""The metadata store of a root: one SQLite file, and the copy that stands in for a broken one."""

import hashlib
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from keras_ae import durable
from keras_ae.errors import StorageError
from pipeline.runtime import console

NAME = "metadata.sqlite"
KEPT = "checksums"
"""Folder of the copy, and of its SHA-256."""
ARTIFACTS = "artifacts"
# Each transaction raises the number that is there in a file of SQLite.
_CHANGES = slice(24, 28)
_OF_A_BROKEN_FILE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_NOTADB)


def check(root: Path) -> None:
    """Makes sure that a root's store can be read, before a run opens it.

    A broken one is renamed. The copy of the last run that ended takes its place, without what
    runs that were killed since have made; where there is none, a new one is begun.

    Raises:
        StorageError: if it cannot be opened.
        OSError: if a file cannot be moved or written.
    """
    path = root / NAME
    copy = _copy(root)
    damage = _damage(path, copy)
    if not damage:
        return
    stamp = time.strftime("damaged-%Y%m%d-%H%M%S")
    for name in (NAME, f"{NAME}-journal"):
        with suppress(FileNotFoundError):
            (root / name).rename(root / f"{name}.{stamp}")
    if copy:
        durable.write(path, copy)
        _drop_newer(root / ARTIFACTS, path)
        console.say(f"damaged: {path} {damage}; its copy of the last run takes its place")
        return
    # The numbers of a new store would lead into the folders of the old one.
    with suppress(FileNotFoundError):
        (root / ARTIFACTS).rename(root / f"{ARTIFACTS}.{stamp}")
    console.say(
        f"damaged: {path} {damage}; a new one is begun, and all is made anew; what was there "
        f"ends in .{stamp}"
    )


def keep(root: Path) -> None:
    """Copies a root's store, as a run leaves it.

    Raises:
        OSError: if it cannot be written; the earlier copy is there then.
    """
    if (root / NAME).is_file():
        content = (root / NAME).read_bytes()
        place = root / KEPT / NAME
        # Of a copy without its digest nothing is believed.
        _digest(place).unlink(missing_ok=True)
        durable.write(place, content)
        durable.write(_digest(place), hashlib.sha256(content).hexdigest().encode())


def _copy(root: Path) -> bytes:
    """What `keep` copied; empty if it did not, or if that is damaged as well."""
    place = root / KEPT / NAME
    try:
        content, noted = place.read_bytes(), _digest(place).read_bytes()
    except OSError:
        return b""
    return content if hashlib.sha256(content).hexdigest().encode() == noted else b""


def _digest(place: Path) -> Path:
    return place.with_name(f"{place.name}.sha256")


def _damage(path: Path, copy: bytes) -> str:
    """What is wrong with a store; empty if nothing is."""
    if not path.is_file() or not path.stat().st_size:
        return "is gone" if (path.parent / ARTIFACTS).is_dir() else ""
    # What a run that was killed left half-done is undone by this.
    if broken := _broken(path):
        return broken
    now = path.read_bytes()
    if copy and now != copy and now[_CHANGES] == copy[_CHANGES]:
        return "is not what was written"
    return ""


def _broken(path: Path) -> str:
    try:
        with closing(sqlite3.connect(path, timeout=1)) as store:
            (first,) = store.execute("PRAGMA integrity_check(1)").fetchone()
            _last(store)
    except sqlite3.DatabaseError as error:
        # A full disk or a store that may not be opened is another matter.
        if error.sqlite_errorcode & 255 not in _OF_A_BROKEN_FILE:
            raise StorageError(f"cannot open {path}: {error}") from error
        return f"is broken: {error}"
    return "" if first == "ok" else f"is broken: {first.splitlines()[-1]}"


def _last(store: sqlite3.Connection) -> int:
    """The number of the last execution."""
    (number,) = store.execute("SELECT max(id) FROM Execution").fetchone()
    return int(number or 0)


def _drop_newer(artifacts: Path, path: Path) -> None:
    """Removes what executions made that a store does not know: it gives their numbers away anew."""
    with closing(sqlite3.connect(path)) as store:
        last = _last(store)
    for place in artifacts.glob("*/*/*/*"):
        if place.name.isdigit() and int(place.name) > last:
            shutil.rmtree(place)
