"""The version folders below a base path, and the threads that load versions."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from google.protobuf.message import Message

from serving.server.errors import invalid

_MAX_VERSION = 2**63 - 1
# The longest number that fits, with room for leading zeros.
_NUMBER = re.compile(r"[0-9]{1,32}")


@dataclass(frozen=True)
class ManagerOptions:
    """How versions are found and loaded.

    Attributes:
        poll_seconds: seconds between searches for versions below the base paths; 0 to search once.
        retry_seconds: seconds between retries to load a version.
        labels_ahead: whether a new label may be assigned to a version that is not available yet.
    """

    poll_seconds: float
    load_retries: int
    retry_seconds: float
    labels_ahead: bool


def local_path(model: str, base_path: str) -> Path:
    """Returns the folder of a base path, absolute or a file:// URI; raises RequestError."""
    scheme = urlsplit(base_path).scheme if "://" in base_path else ""
    if not scheme and not base_path.startswith("/"):
        raise invalid(
            f"Expected model {model} to have an absolute path or URI; got base_path()={base_path}"
        )
    if scheme not in ("", "file"):
        raise invalid(
            f"Expected model {model} to have a path on a local file system; got a {scheme}:// "
            "URI, which this server cannot read: mount or copy it"
        )
    return Path(urlsplit(base_path).path if scheme else base_path)


def find(base_path: Path) -> dict[int, Path]:
    """Returns number -> folder of the versions: folders whose names are whole numbers.

    Raises OSError if `base_path` cannot be listed, or was removed meanwhile.
    """
    folders: dict[int, Path] = {}
    for path in sorted(base_path.iterdir()):
        if _NUMBER.fullmatch(path.name) and int(path.name) <= _MAX_VERSION and path.is_dir():
            folders.setdefault(int(path.name), path)
    # If the base path was moved after it was listed, is_dir is false for every version, and an
    # empty result would unload all of them.
    base_path.stat()
    return folders


def select(folders: dict[int, Path], policy: Message) -> dict[int, Path]:
    """Returns the versions that a ServableVersionPolicy selects, of number -> folder of all.

    They are the latest n versions (the default, with n = 1), all, or specific ones.
    """
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return dict(folders)
    if kind == "specific":
        return {n: folders[n] for n in policy.specific.versions if n in folders}
    count = policy.latest.num_versions or 1
    return {number: folders[number] for number in sorted(folders)[-count:]}


class Loaders:
    """One thread for each loaded version, in which it is loaded and freed.

    glibc's malloc gives each thread an arena of its own. With one thread per version, the memory of
    a version is contiguous and is returned to the system when the version is unloaded. If one
    thread loaded all versions, their blocks would interleave in one arena, and each swap of
    versions would return less memory.

    Attributes:
        load_lock: held while a version is loaded, so that one is loaded at a time.
    """

    def __init__(self) -> None:
        self.load_lock = asyncio.Lock()
        self._all: list[ThreadPoolExecutor] = []
        self._idle: list[ThreadPoolExecutor] = []

    def take(self) -> ThreadPoolExecutor:
        """Returns an idle thread, or a new one."""
        if self._idle:
            return self._idle.pop()
        self._all.append(ThreadPoolExecutor(1, "load"))
        return self._all[-1]

    def give_back(self, loader: ThreadPoolExecutor) -> None:
        """Makes the thread of an unloaded version available for another version."""
        self._idle.append(loader)

    def close(self) -> None:
        """Ends the threads once they are idle; does not wait for them."""
        for loader in self._all:
            loader.shutdown(wait=False)
