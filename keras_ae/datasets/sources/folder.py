"""Images in a folder at a path or URI."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from keras_ae import storage
from keras_ae.concurrency import map_in_threads
from keras_ae.datasets.images.headers import MAX_BYTES, looks_like_image
from keras_ae.datasets.sources.base import (
    Findings,
    ReadRecord,
    Record,
    Shard,
    Source,
    make_shards,
    raise_no_image,
    status_digest,
)
from keras_ae.datasets.sources.kinds import BEHIND_LINKS, HEAD_BYTES, has_image_suffix, kind_of
from keras_ae.datasets.sources.listing import EVERYTHING, Listing, Reading, list_files
from keras_ae.datasets.sources.names import escape_name, unescape_name
from keras_ae.datasets.sources.splits import Layout
from keras_ae.datasets.sources.walk import MAX_COUNTED, count_files, walk
from keras_ae.errors import DataError


@dataclass
class FolderSource(Source):
    """The image files of a folder and its subfolders, except for hidden files.

    Links to files inside the folder are followed. Links out of it, links to folders, and unreadable
    folders are quarantined, unless links are followed.

    Attributes:
        path: path or URI of the folder.
        reading: which files are read.
    """

    path: str
    reading: Reading = EVERYTHING
    # What `shards` found; without the names, because workers get a copy of the source.
    _layout: Layout | None = field(default=None, init=False, repr=False, compare=False)
    _findings: Findings | None = field(default=None, init=False, repr=False, compare=False)

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
        listing = self._list()
        if not listing.names:
            raise_no_image(self.path, listing.not_read)
        self._layout, self._findings = listing.layout, self._with_links(listing)
        names = sorted(map(escape_name, listing.names))
        return make_shards(names, [status.size for status in self._statuses(names)])

    def findings(self) -> Findings:
        return self._findings or self._with_links(self._list())

    def read(self, shard: Shard) -> Iterator[Record]:
        layout = self._layout or self._list().layout
        if storage.is_uri(self.path):
            return map_in_threads(
                lambda name: self._read(name, layout), shard, storage.PARALLEL_REQUESTS
            )
        return (self._read(name, layout) for name in shard)

    def _read(self, name: str, layout: Layout) -> Record:
        original = unescape_name(name)
        # A folder that was not entered has a fault in any case.
        may_be_image = has_image_suffix(original) or name.endswith("/")
        data, fault = b"", ""
        try:
            with storage.open_file(self._resolve(original)) as file:
                may_be_image = may_be_image or looks_like_image(file.peek(HEAD_BYTES))
                data = storage.read_rest(file, MAX_BYTES) if may_be_image else b""
        except OSError as error:
            fault = f"cannot be read: {error.strerror}"
        except DataError as error:
            fault = str(error)
        if not may_be_image and (not fault or self._is_link(original)):
            followed = self.reading.follow_links or not self._is_link(original)
            kind = kind_of(original) if followed else BEHIND_LINKS
            return Record(name, b"", not_read=kind)
        place = layout.place(original)
        return Record(name.rstrip("/"), data, fault, place.split, place.label)

    def _is_link(self, original: str) -> bool:
        path = storage.join(self.path, original)
        return not storage.is_uri(path) and Path(path).is_symlink()

    def _sha256(self, name: str) -> bytes:
        """The digest of a local file; empty if it is no image, or cannot be read."""
        original = unescape_name(name)
        with suppress(OSError, DataError):
            path = self._resolve(original)
            if not has_image_suffix(original):
                with storage.open_file(path) as file:
                    if not looks_like_image(file.peek(HEAD_BYTES)):
                        return b""
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

    def _resolve(self, original: str) -> str:
        """The path of a file, after its links.

        Raises:
            OSError: if a link is dangling or circular, or a folder cannot be read.
            DataError: if it is a link to a folder or a link out of this folder.
        """
        path = storage.join(self.path, original)
        if storage.is_uri(path):
            return path
        is_link = not self.reading.follow_links and Path(path).is_symlink()
        if original.endswith("/") and is_link:
            count = count_files(path)
            more = "more than " if count == MAX_COUNTED else ""
            raise DataError(
                f"a link to a folder, which is not followed (with {more}{count:,} files); "
                "--follow-links follows it"
            )
        if original.endswith("/"):
            # Raises the reason why this folder was not entered.
            os.scandir(path).close()
        elif is_link:
            path = os.path.realpath(path, strict=True)
            if not Path(path).is_relative_to(os.path.realpath(self.path)):
                raise DataError(
                    "a link out of the folder, which is not followed; expected the image itself, "
                    "or --follow-links"
                )
        return path

    def _list(self) -> Listing:
        names = walk(self.path, follow_links=self.reading.follow_links)
        return list_files(names, self.reading, self.path)

    def _names(self) -> list[str]:
        """Sorted and escaped names of all files that are read."""
        return sorted(map(escape_name, self._list().names))

    def _with_links(self, listing: Listing) -> Findings:
        """The findings of a listing, with the number of files behind links to folders."""
        found = listing.findings()
        paths = [storage.join(self.path, n) for n in listing.names if n.endswith("/")]
        inside = os.path.realpath(self.path)
        links = [path for path in paths if Path(path).is_symlink()]
        others = [path for path in links if not Path(os.path.realpath(path)).is_relative_to(inside)]
        if others:
            counts = [count_files(path) for path in others]
            kind = f"or more {BEHIND_LINKS}" if MAX_COUNTED in counts else BEHIND_LINKS
            found = found._replace(not_read={**found.not_read, kind: sum(counts)})
        return found


def _content_digest(files: Iterable[tuple[str, bytes]]) -> str:
    return storage.sha256_of_parts(name.encode() + b"\0" + content for name, content in files)


def _summarize(names: set[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(sorted(names)[:3]) + more
