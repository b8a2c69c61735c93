"""Manifests of artifacts: the files that each had when it was written, to find damage later."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from keras_ae import durable
from keras_ae.storage import sha256_of_file


class _File(NamedTuple):
    """A file's size in bytes, modification time in nanoseconds, and SHA-256 in hexadecimal."""

    size: int
    mtime_ns: int
    digest: str


class Checksums:
    """The manifests of artifacts on this machine, one file for each, in a folder."""

    def __init__(self, folder: Path):
        self._folder = folder

    def digest(self, path: str) -> str:
        """SHA-256 over the names and contents of an artifact's files when its manifest was written.

        `path` is its folder or its only file. The first call for an artifact writes its manifest.

        Raises:
            OSError: if it cannot be read, or its manifest cannot be written.
        """
        manifest = self._read(path) or self._write(path)
        text = json.dumps([(name, file.digest) for name, file in sorted(manifest.items())])
        return hashlib.sha256(text.encode()).hexdigest()

    def damage(self, path: str, *, fully: bool) -> str:
        """The first file of an artifact that was changed or removed, and why; else empty.

        Files that were added do not count, nor do artifacts without a manifest. Only `fully` reads
        also files whose size and modification time have not changed.
        """
        for name, written in sorted(self._read(path).items()):
            file = Path(path, name)
            try:
                status = file.stat()
                same = (status.st_size, status.st_mtime_ns) == (written.size, written.mtime_ns)
                if (fully or not same) and sha256_of_file(file).hex() != written.digest:
                    return f"{file} is not what was written"
            except FileNotFoundError:
                return f"{file} is gone"
            except OSError as error:
                return f"{file} cannot be read: {error.strerror}"
        return ""

    def size(self, path: str) -> int:
        """Bytes of an artifact when its manifest was written; 0 where it has none."""
        return sum(file.size for file in self._read(path).values())

    def forget(self, path: str) -> None:
        """Removes the manifest of an artifact."""
        self._manifest(path).unlink(missing_ok=True)

    def _write(self, path: str) -> dict[str, _File]:
        files = {}
        for file in sorted(Path(path).rglob("*")) or [Path(path)]:
            if not file.is_file():
                continue
            # Before the file is read, so that a change during the read shows as one.
            status = file.stat()
            name = file.relative_to(path).as_posix()
            files[name] = _File(status.st_size, status.st_mtime_ns, sha256_of_file(file).hex())
        durable.write(self._manifest(path), json.dumps({"place": path, "files": files}).encode())
        return files

    def _read(self, path: str) -> dict[str, _File]:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            manifest = json.loads(self._manifest(path).read_bytes())
            return {name: _File(*facts) for name, facts in manifest["files"].items()}
        return {}

    def _manifest(self, path: str) -> Path:
        return self._folder / f"{hashlib.sha256(path.encode()).hexdigest()[:32]}.json"
