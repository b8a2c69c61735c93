"""What artifacts were when they were made: a manifest of each, and whether it still holds."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from keras_ae import durable
from keras_ae.storage import sha256_of_file


class _File(NamedTuple):
    """Size in bytes, time of the last change in nanoseconds, SHA-256 in hexadecimal digits."""

    size: int
    changed: int
    digest: str


class Checksums:
    """The manifests of artifacts on this machine.

    Args:
        folder: where they are kept, a file each; made when the first one is.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def digest(self, place: str) -> str:
        """SHA-256 over the names and contents that an artifact had when it was first asked for.

        Args:
            place: the artifact's folder, or its only file.

        Raises:
            OSError: if it cannot be read, or its manifest cannot be written.
        """
        manifest = self._known(place) or self._record(place)
        names = sorted(manifest)
        text = json.dumps([(name, manifest[name].digest) for name in names])
        return hashlib.sha256(text.encode()).hexdigest()

    def damage(self, place: str, *, fully: bool) -> str:
        """What became of an artifact since its manifest was written; files that were added are none
        of it.

        Args:
            place: as of `digest`.
            fully: whether files are read whose size and time are as they were, too.

        Returns:
            The first file that is not what it was, and why; empty where all are, or where nothing
            is known of the artifact.
        """
        for name, was in sorted((self._known(place) or {}).items()):
            path = Path(place, name)
            try:
                now = path.stat()
                same = (now.st_size, now.st_mtime_ns) == (was.size, was.changed)
                if not (same and not fully) and sha256_of_file(path).hex() != was.digest:
                    return f"{path} is not what was written"
            except FileNotFoundError:
                return f"{path} is gone"
            except OSError as error:
                return f"{path} cannot be read: {error.strerror}"
        return ""

    def size(self, place: str) -> int:
        """Bytes that an artifact had; 0 where nothing is known of it."""
        return sum(file.size for file in (self._known(place) or {}).values())

    def forget(self, place: str) -> None:
        """Drops the manifest of an artifact."""
        self._manifest(place).unlink(missing_ok=True)

    def _record(self, place: str) -> dict[str, _File]:
        files = {}
        for path in _files(Path(place)):
            # Before it is read: a change meanwhile is one.
            status = path.stat()
            name = path.relative_to(place).as_posix()
            files[name] = _File(status.st_size, status.st_mtime_ns, sha256_of_file(path).hex())
        durable.write(self._manifest(place), json.dumps({"place": place, "files": files}).encode())
        return files

    def _known(self, place: str) -> dict[str, _File] | None:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            told = json.loads(self._manifest(place).read_bytes())
            return {name: _File(*facts) for name, facts in told["files"].items()}
        return None

    def _manifest(self, place: str) -> Path:
        return self._folder / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.json"


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        return iter((place,))
    return (path for path in sorted(place.rglob("*")) if path.is_file())
