"""What the corpus is made of: files, and what is to become of each."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

ARRIVES = "arrives"
SKIPPED = "skipped"

Content = tuple[bytes | None, str]
"""Bytes of a file, none for a sparse one of 250 MiB, and what is expected: `ARRIVES`, `SKIPPED`, or
what is in the reason for which it is quarantined."""


class File(NamedTuple):
    """A file of the folder.

    Attributes:
        name: below the folder.
        key: the name as the source gives it.
        make: writes it at a path.
        expected: as of `Content`.
    """

    name: str
    key: str
    make: Callable[[Path], None]
    expected: str


class Archive(NamedTuple):
    """An archive, a source of its own.

    Attributes:
        name: of the file.
        make: writes it at a path.
        members: what is expected of each by its key; what is not listed is skipped.
        refused: what is in the error if the archive as a whole is refused.
    """

    name: str
    make: Callable[[Path], None]
    members: Mapping[str, str] = {}
    refused: str = ""
