"""Version folders under a base path, and which of them a policy asks for."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serving.server.core import invalid

_MAX_VERSION = 2**63 - 1
# The longest number that fits, with room for leading zeros.
_NUMBER = re.compile(r"[0-9]{1,32}")


def local_path(model: str, base_path: str) -> Path:
    """The folder that a base path names.

    Raises:
        RequestError: INVALID_ARGUMENT if it is relative or not on this machine's file systems.
    """
    scheme = urlsplit(base_path).scheme if "://" in base_path else ""
    if not scheme and not base_path.startswith("/"):
        raise invalid(
            f"Expected model {model} to have an absolute path or URI; got base_path()={base_path}"
        )
    if scheme not in ("", "file"):
        raise invalid(
            f"Expected model {model} to have a path on a local file system; this server reads no "
            f"{scheme}:// URI: mount or copy it"
        )
    return Path(urlsplit(base_path).path if scheme else base_path)


def find(base_path: Path) -> dict[int, Path]:
    """Version -> folder, for the folders under `base_path` whose names are whole numbers.

    Raises:
        OSError: if `base_path` cannot be listed, or went away meanwhile.
    """
    found: dict[int, Path] = {}
    for path in sorted(base_path.iterdir()):
        if _NUMBER.fullmatch(path.name) and int(path.name) <= _MAX_VERSION and path.is_dir():
            found.setdefault(int(path.name), path)
    # A base path that was moved away after it was listed has no folders in it either, and would
    # unload every version.
    base_path.stat()
    return found


def aspired(found: dict[int, Path], policy: Any) -> dict[int, Path]:
    """What should be served of what was found.

    Args:
        found: version -> folder.
        policy: ServableVersionPolicy: the latest n (the default, n = 1), all, or specific ones.
    """
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return dict(found)
    if kind == "specific":
        return {version: found[version] for version in policy.specific.versions if version in found}
    count = policy.latest.num_versions or 1
    return {version: found[version] for version in sorted(found)[-count:]}


class Loaders:
    """A thread for each version that is there, for as long as it is there.

    What a thread asks of glibc's malloc lies in a pool of its own, so that what a version took lies
    together and goes back to the system with it. In one thread for all of them the versions would
    come to lie between each other, and each time less would go back.

    Attributes:
        turn: held while a model is loaded: one after the other.
    """

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self._all: list[ThreadPoolExecutor] = []
        self._idle: list[ThreadPoolExecutor] = []

    def take(self) -> ThreadPoolExecutor:
        """An idle thread, or a new one."""
        if not self._idle:
            self._all.append(ThreadPoolExecutor(1, "load"))
            return self._all[-1]
        return self._idle.pop()

    def give_back(self, loader: ThreadPoolExecutor) -> None:
        """Takes the thread of a version that is gone."""
        self._idle.append(loader)

    def close(self) -> None:
        """Ends the threads once they are idle; returns at once."""
        for loader in self._all:
            loader.shutdown(wait=False)
