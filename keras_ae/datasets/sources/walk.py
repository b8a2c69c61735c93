"""Names of the files below a folder, also of those behind links."""

import itertools
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

    def is_new(path: Path) -> bool:
        status = path.stat()
        count = len(entered)
        entered.add((status.st_dev, status.st_ino))
        return len(entered) > count

    links = [""]
    while links:
        # All real folders first, so that an image has the name without a link if there is one.
        starts, links = sorted(links), []
        for start in starts:
            for name, is_link in storage.walk_local(folder, start, is_new):
                if is_link:
                    links.append(name)
                else:
                    yield name


def count_files(folder: str) -> int:
    """Number of files below a folder that are not hidden, at most `MAX_COUNTED`."""
    try:
        names = (name for name in storage.walk_names(folder) if not is_hidden(name))
        return sum(1 for _ in itertools.islice(names, MAX_COUNTED))
    except ReadError:
        return 0
