"""Images in a folder at a path or URI."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from keras_ae import storage
from keras_ae.concurrency import map_in_threads
from keras_ae.datasets.images.headers import MAX_BYTES
from keras_ae.datasets.sources.base import (
    ReadRecord,
    Record,
    Shard,
    Source,
    make_shards,
    status_digest,
)
from keras_ae.datasets.sources.names import escape_name, is_candidate, unescape_name
from keras_ae.errors import DataError


@dataclass(frozen=True)
class FolderSource(Source):
    """The image files of a folder and its subfolders, except for hidden files.

    Links to files inside the folder are followed. Links out of it, links to folders, and unreadable
    folders are quarantined.

    Attributes:
        path: path or URI of the folder.
    """

    path: str

    def fingerprint(self) -> str:
        names = self._names()
        if storage.is_uri(self.path):
            return status_digest(dict(zip(names, self._statuses(names))))
        return _content_digest((name, self._sha256(name)) for name in names)

    def fingerprint_of(self, records: Iterable[ReadRecord]) -> str:
        if storage.is_uri(self.path):
            return self.fingerprint()
        return _content_digest(
            (name, bytes.fromhex(digest) if size else self._sha256(name))
            for name, digest, size in records
        )

    def describe_changes(self, names: Iterable[str]) -> str:
        now, before = set(self._names()), set(names)
        changes = {"added": now - before, "removed": before - now}
        if not any(changes.values()) and now:
            # The modification time of a folder changes when a file is removed from it.
            folders = set() if storage.is_uri(self.path) else {f"{Path(n).parent}/" for n in now}
            changes = {"last changed": {max(sorted(now) + sorted(folders), key=self._change_time)}}
        return "; ".join(f"{kind}: {_summarize(which)}" for kind, which in changes.items() if which)

    def shards(self) -> list[Shard]:
        names = self._names()
        return make_shards(names, [status.size for status in self._statuses(names)])

    def read(self, shard: Shard) -> Iterator[Record]:
        if storage.is_uri(self.path):
            return map_in_threads(self._read, shard, storage.PARALLEL_REQUESTS)
        return map(self._read, shard)

    def _read(self, name: str) -> Record:
        key = name.rstrip("/")
        try:
            return Record(key, storage.read_file(self._resolve(name), MAX_BYTES))
        except OSError as error:
            return Record(key, b"", f"cannot be read: {error.strerror}")
        except DataError as error:
            return Record(key, b"", str(error))

    def _sha256(self, name: str) -> bytes:
        """The digest of a local file; empty if it cannot be read and will be quarantined."""
        with suppress(OSError, DataError):
            path = self._resolve(name)
            if storage.get_status(path).size <= MAX_BYTES:
                return storage.sha256_of_file(path)
        return b""

    def _change_time(self, name: str) -> int:
        """Time in nanoseconds at which a file or a folder changed; 0 if it does not exist."""
        path = storage.join(self.path, unescape_name(name))
        if storage.is_uri(path):
            return storage.get_status(path).mtime_ns
        try:
            # Not st_mtime_ns, which a file keeps when it is moved here.
            return Path(path).stat().st_ctime_ns
        except OSError:
            return 0

    def _statuses(self, names: list[str]) -> list[storage.Status]:
        return storage.get_statuses(self.path, [unescape_name(name) for name in names])

    def _resolve(self, name: str) -> str:
        """The path of a file, after its links.

        Raises:
            OSError: if a link is dangling or circular, or a folder cannot be read.
            DataError: if it is a link to a folder or a link out of this folder.
        """
        name = unescape_name(name)
        path = storage.join(self.path, name)
        if storage.is_uri(path):
            return path
        is_link = Path(path).is_symlink()
        if name.endswith("/") and is_link:
            raise DataError("a link to a folder, which is not followed; expected the folder itself")
        if name.endswith("/"):
            # Raises the reason why this folder was not entered.
            os.scandir(path).close()
        elif is_link:
            path = os.path.realpath(path, strict=True)
            if not Path(path).is_relative_to(os.path.realpath(self.path)):
                raise DataError(
                    "a link out of the folder, which is not followed; expected the image itself"
                )
        return path

    def _names(self) -> list[str]:
        """Sorted and escaped names of all candidates."""
        return sorted(map(escape_name, filter(is_candidate, storage.walk_names(self.path))))


def _content_digest(files: Iterable[tuple[str, bytes]]) -> str:
    return storage.sha256_of_parts(name.encode() + b"\0" + content for name, content in files)


def _summarize(names: set[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(sorted(names)[:3]) + more
