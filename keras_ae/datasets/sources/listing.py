"""Which files of a folder or an archive are read, and how all others are counted."""

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from keras_ae.datasets.sources import splits
from keras_ae.datasets.sources.base import Findings
from keras_ae.datasets.sources.kinds import (
    EXCLUDED,
    NO_SUFFIX,
    has_image_suffix,
    is_hidden,
    is_other,
    kind_of,
)
from keras_ae.datasets.sources.splits import Layout
from keras_ae.errors import ConfigurationError, DataError


class Reading(NamedTuple):
    """Which files are read, and how they are divided into splits.

    Attributes:
        splits: one of `keras_ae.datasets.sources.splits.MODES`.
        exclude: patterns, as of `fnmatch`, of relative paths of files or folders to leave out; a
            `*` matches slashes, too.
        follow_links: whether links to folders, and out of the folder, are followed.
        leave_out: relative paths of folders to leave out without counting their files.
    """

    splits: str = splits.AUTO
    exclude: tuple[str, ...] = ()
    follow_links: bool = False
    leave_out: tuple[str, ...] = ()


EVERYTHING = Reading()
"""All images."""


class Listing(NamedTuple):
    """The files that are read, and what is known of the others.

    Attributes:
        names: names of the files that are read, in the given order.
        layout: gives their splits and labels.
        not_read: number of other files by kind.
    """

    names: list[str]
    layout: Layout
    not_read: dict[str, int]

    def findings(self) -> Findings:
        """What was found, without the names."""
        folders = splits.split_folders(self.layout, self.names)
        return Findings(self.not_read, folders, len(self.layout.parents))


class Sorter:
    """Tells which files may be images, by their names, and counts the others by kind.

    Attributes:
        not_read: number of files by kind; hidden files are not counted.
    """

    def __init__(self, reading: Reading) -> None:
        # Says so if nothing was excluded.
        self.not_read: Counter[str] = Counter({EXCLUDED: 0} if reading.exclude else {})
        patterns = [p.rstrip("/") for p in reading.exclude]
        both = [fnmatch.translate(p + end) for p in patterns for end in ("", "/*")]
        self._left_out = tuple(f"{path}/" for path in reading.leave_out)
        self._excluded = re.compile("|".join(both)) if both else None

    def is_included(self, name: str) -> bool:
        """Whether a file is not hidden, excluded or left out."""
        if is_hidden(name) or name.startswith(self._left_out):
            return False
        if self._excluded is not None and self._excluded.match(name.rstrip("/")):
            self.not_read[EXCLUDED] += 1
            return False
        return True

    def is_candidate(self, name: str) -> bool:
        """Whether a file may be an image; a name that ends in a slash is a folder not entered."""
        if not self.is_included(name):
            return False
        if not name:
            self.not_read[NO_SUFFIX] += 1
        elif not has_image_suffix(name) and not name.endswith("/") and is_other(name):
            self.not_read[kind_of(name)] += 1
        else:
            return True
        return False

    def arrange(self, names: Iterable[str], reading: Reading, path: str) -> Listing:
        """Finds the layout of candidates and leaves out those that it does not use.

        Args:
            names: the candidates.
            reading: as given to this sorter.
            path: of the folder or archive, for messages.

        Raises:
            DataError: if `splits` is folders and there are none.
        """
        names = list(names)
        files = [name for name in names if not name.endswith("/")]
        layout = splits.find_layout(files, reading.splits)
        if reading.splits == splits.FOLDERS and not layout.parents:
            raise DataError(f"--splits folders: no split folders in {path}: {splits.EXPECTED}")
        not_read = self.not_read.copy()
        if layout.parents or layout.masks:
            # A folder that was not entered is a record with a fault wherever it is.
            left_out = {n for n in files if layout.place(n).left_out}
            not_read.update(layout.place(name).left_out for name in left_out)
            names = [name for name in names if name not in left_out]
        return Listing(names, layout, dict(not_read))


def list_files(names: Iterable[str], reading: Reading, path: str) -> Listing:
    """Selects the files that are read; see `Sorter`."""
    sorter = Sorter(reading)
    return sorter.arrange(filter(sorter.is_candidate, names), reading, path)


def make_reading(
    splits_mode: str, exclude: Iterable[str], follow_links: bool, leave_out: Iterable[str] = ()
) -> Reading:
    """Checks the options of `keras_ae.datasets.sources.open.open_source`.

    Raises:
        ConfigurationError: for an unknown way to split.
    """
    if splits_mode not in splits.MODES:
        raise ConfigurationError(f"splits: expected {', '.join(splits.MODES)}; got {splits_mode!r}")
    return Reading(splits_mode, tuple(exclude), follow_links, tuple(leave_out))
