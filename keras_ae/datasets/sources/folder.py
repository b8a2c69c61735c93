"""Images in a folder, on this machine or at a URI."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from keras_ae import storage
from keras_ae.concurrency import in_threads
from keras_ae.datasets.images.headers import MAX_BYTES
from keras_ae.datasets.sources.base import ReadRecord, Record, Shard, Source, cut, status_digest
from keras_ae.datasets.sources.names import is_looked_at, printable, unescaped
from keras_ae.errors import DataError


@dataclass(frozen=True)
class FolderSource(Source):
    """The image files of a folder and its subfolders; hidden ones are left out.

    Links to files of the folder are followed. Links out of it, links to folders, and folders that
    cannot be read are quarantined.

    Attributes:
        place: path or URI.
    """

    place: str

    def fingerprint(self) -> str:
        names = self._names()
        if storage.is_uri(self.place):
            return status_digest(dict(zip(names, self._statuses(names))))
        return _content_digest((name, self._sha256(name)) for name in names)

    def fingerprint_of(self, seen: Iterable[ReadRecord]) -> str:
        if storage.is_uri(self.place):
            return self.fingerprint()
        return _content_digest(
            (name, bytes.fromhex(digest) if size else self._sha256(name))
            for name, digest, size in seen
        )

    def changes(self, names: Iterable[str]) -> str:
        now, before = set(self._names()), set(names)
        found = {"added": now - before, "removed": before - now}
        if not any(found.values()) and now:
            # A folder changes when a file in it goes.
            folders = set() if storage.is_uri(self.place) else {f"{Path(n).parent}/" for n in now}
            found = {"last changed": {max(sorted(now) + sorted(folders), key=self._changed)}}
        return "; ".join(f"{what}: {_some(which)}" for what, which in found.items() if which)

    def shards(self) -> list[Shard]:
        names = self._names()
        return cut(names, [status.size for status in self._statuses(names)])

    def read(self, shard: Shard) -> Iterator[Record]:
        if storage.is_uri(self.place):
            return in_threads(self._read, shard, storage.PARALLEL_REQUESTS)
        return map(self._read, shard)

    def _read(self, name: str) -> Record:
        key = name.rstrip("/")
        try:
            return Record(key, storage.read_file(self._inside(name), MAX_BYTES))
        except OSError as error:
            return Record(key, b"", f"cannot be read: {error.strerror}")
        except DataError as error:
            return Record(key, b"", str(error))

    def _sha256(self, name: str) -> bytes:
        """Of a local file; empty for one that cannot be read, which is quarantined in its turn."""
        with suppress(OSError, DataError):
            place = self._inside(name)
            if storage.status(place).size <= MAX_BYTES:
                return storage.sha256_of_file(place)
        return b""

    def _changed(self, name: str) -> int:
        place = storage.join(self.place, unescaped(name))
        if storage.is_uri(self.place):
            return storage.status(place).changed
        try:
            # A file that was moved here keeps the time at which it was written.
            return Path(place).stat().st_ctime_ns
        except OSError:
            return 0

    def _statuses(self, names: list[str]) -> list[storage.Status]:
        return storage.statuses(self.place, [unescaped(name) for name in names])

    def _inside(self, name: str) -> str:
        """The place of a file, which links do not lead out of the folder.

        Raises:
            OSError: if a link leads nowhere or in a circle, or a folder cannot be read.
            DataError: if it is a link to a folder, or one out of this one.
        """
        name = unescaped(name)
        place = storage.join(self.place, name)
        if storage.is_uri(place):
            return place
        link = Path(place).is_symlink()
        if name.endswith("/") and link:
            raise DataError("a link to a folder, which is not followed; expected the folder itself")
        if name.endswith("/"):
            os.scandir(place).close()
        elif link:
            place = os.path.realpath(place, strict=True)
            if not Path(place).is_relative_to(os.path.realpath(self.place)):
                raise DataError(
                    "a link out of the folder, which is not followed; expected the image itself"
                )
        return place

    def _names(self) -> list[str]:
        """As `printable` gives them."""
        return sorted(map(printable, filter(is_looked_at, storage.names_below(self.place))))


def _content_digest(files: Iterable[tuple[str, bytes]]) -> str:
    return storage.sha256_of_parts(name.encode() + b"\0" + content for name, content in files)


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
