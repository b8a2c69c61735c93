"""The metadata store of a root, one SQLite file, and the backup that replaces a damaged one."""

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
BACKUPS = "checksums"
"""Folder of the backup and its SHA-256, and of the artifacts' manifests."""
ARTIFACTS = "artifacts"
_DIGEST = ".sqlite.sha256"
# SQLite increments this counter in the header of its file with each transaction.
_CHANGE_COUNTER = slice(24, 28)
_BROKEN_FILE_ERRORS = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_NOTADB)


def check(root: Path) -> None:
    """Makes sure that a root's store can be read, before a run opens it.

    A damaged store is renamed. The backup of the last run that ended takes its place, without the
    results of runs that were killed since. Where there is no backup, a new store is begun.

    Raises:
        StorageError: if it cannot be opened.
        OSError: if a file cannot be moved or written.
    """
    path, backup = root / NAME, _read_backup(root)
    damage = _damage(path, backup)
    if not damage:
        return
    stamp = time.strftime("damaged-%Y%m%d-%H%M%S")
    for name in (NAME, f"{NAME}-journal"):
        with suppress(FileNotFoundError):
            (root / name).rename(root / f"{name}.{stamp}")
    if backup:
        durable.write(path, backup)
        _drop_newer(root / ARTIFACTS, path)
        console.say(f"damaged: {path} {damage}; restored from the copy of the last run")
        return
    # A new store counts executions from 1 again, and their ids name the folders of artifacts.
    with suppress(FileNotFoundError):
        (root / ARTIFACTS).rename(root / f"{ARTIFACTS}.{stamp}")
    console.say(
        f"damaged: {path} {damage}; starting a new one, so every step runs again; the old files "
        f"end in .{stamp}"
    )


def back_up(root: Path) -> None:
    """Copies a root's store at the end of a run.

    Raises:
        OSError: if it cannot be written; the earlier backup is not used then.
    """
    if (root / NAME).is_file():
        content, backup = (root / NAME).read_bytes(), root / BACKUPS / NAME
        # A backup without its digest counts as none, so that a kill in between leaves no mixture.
        backup.with_suffix(_DIGEST).unlink(missing_ok=True)
        durable.write(backup, content)
        durable.write(backup.with_suffix(_DIGEST), hashlib.sha256(content).hexdigest().encode())


def _read_backup(root: Path) -> bytes:
    """The content of the backup; empty if there is none, or if it is damaged as well."""
    backup = root / BACKUPS / NAME
    try:
        content, digest = backup.read_bytes(), backup.with_suffix(_DIGEST).read_bytes()
    except OSError:
        return b""
    return content if hashlib.sha256(content).hexdigest().encode() == digest else b""


def _damage(path: Path, backup: bytes) -> str:
    """What is wrong with a store; empty if nothing is."""
    if not path.is_file() or not path.stat().st_size:
        return "is gone" if (path.parent / ARTIFACTS).is_dir() else ""
    # Before the bytes are compared, because SQLite rolls back an interrupted transaction here.
    if error := _integrity_error(path):
        return error
    content = path.read_bytes()
    # Other bytes without another transaction: damage that SQLite itself does not notice.
    if backup and content != backup and content[_CHANGE_COUNTER] == backup[_CHANGE_COUNTER]:
        return "is not what was written"
    return ""


def _integrity_error(path: Path) -> str:
    try:
        with closing(sqlite3.connect(path, timeout=1)) as store:
            (first,) = store.execute("PRAGMA integrity_check(1)").fetchone()
            _last_execution(store)
    except sqlite3.DatabaseError as error:
        # A full disk or a missing permission is no damage, and replacing the file would not help.
        if error.sqlite_errorcode & 255 not in _BROKEN_FILE_ERRORS:
            raise StorageError(f"cannot open {path}: {error}") from error
        return f"is broken: {error}"
    return "" if first == "ok" else f"is broken: {first.splitlines()[-1]}"


def _last_execution(store: sqlite3.Connection) -> int:
    """The id of the last execution; 0 if there is none."""
    (number,) = store.execute("SELECT max(id) FROM Execution").fetchone()
    return int(number or 0)


def _drop_newer(artifacts: Path, path: Path) -> None:
    """Removes outputs of executions that a store does not know: it will use their ids again."""
    with closing(sqlite3.connect(path)) as store:
        last = _last_execution(store)
    for folder in artifacts.glob("*/*/*/*"):
        if folder.name.isdigit() and int(folder.name) > last:
            shutil.rmtree(folder)
