"""Names of the files below a folder, also of those behind links."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from keras_ae import storage
from keras_ae.datasets.sources.kinds import is_hidden
from keras_ae.errors import ReadError

MAX_COUNTED = 10_000
"""Maximum number of files behind a link that are counted."""


def walk(folder: str, *, follow_links: bool = False) -> Iterator[str]:
    """Names of the files below a folder, relative to it, with slashes, in no particular order.

    Links to folders are entered only with `follow_links`; the names of folders that are not entered
    end in a slash.

    Args:
        folder: a path or URI.
        follow_links: whether to enter links to folders. A folder that was entered before is not
            entered again, so that links in a circle end; a link is only entered for what is below
            no other folder, in the order of the names of the links.

    Raises:
        ReadError: if the folder itself cannot be read.
    """
    if storage.is_uri(folder) or not follow_links:
        yield from storage.walk_names(folder)
        return
    entered: set[tuple[int, int]] = set()
    links = [""]
    while links:
        # All real folders first, so that an image has the name without a link if there is one.
        found: list[str] = []
        for link in sorted(links):
            yield from _enter(folder, link, entered, found)
        links = found


def count_files(folder: str) -> int:
    """Number of files below a folder that are not hidden, at most `MAX_COUNTED`."""
    try:
        names = (name for name in storage.walk_names(folder) if not is_hidden(name))
        return sum(1 for _ in itertools.islice(names, MAX_COUNTED))
    except ReadError:
        return 0


def _enter(
    folder: str, link: str, entered: set[tuple[int, int]], links: list[str]
) -> Iterator[str]:
    """Names of the files of a folder, without what is in `entered`; adds links to `links`."""
    pending = [link]
    while pending:
        subfolder = pending.pop()
        path = Path(folder, subfolder)
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                for entry in entries:
                    name = subfolder + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{name}/")
                    elif entry.is_symlink() and Path(entry.path).is_dir():
                        links.append(f"{name}/")
                    else:
                        yield name
        except OSError as error:
            if not subfolder:
                raise ReadError(f"cannot read {folder}: {error.strerror}") from error
            yield subfolder
