"""The entries of the corpus: files and archives, with the expected outcome of each."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

ACCEPTED = "accepted"
SKIPPED = "skipped"

Content = tuple[bytes | None, str]
"""Data of a file (None for a sparse file of 250 MiB) and its expected outcome: `ACCEPTED`,
`SKIPPED`, or a part of the reason for which it is quarantined."""


class File(NamedTuple):
    """A file of the folder.

    Attributes:
        name: path below the folder.
        key: key of its record in the source.
        write: writes the file to a path.
        expected: its expected outcome, as in `Content`.
    """

    name: str
    key: str
    write: Callable[[Path], None]
    expected: str


class Archive(NamedTuple):
    """An archive, which is a source.

    Attributes:
        name: name of the file.
        write: writes the file to a path.
        members: expected outcome by key of each member; others are skipped.
        refused: a part of the error if the whole archive is refused; else empty.
        slow: whether writing or reading it takes too long to be repeated by a fuzzer.
    """

    name: str
    write: Callable[[Path], None]
    members: Mapping[str, str] = {}
    refused: str = ""
    slow: bool = False
