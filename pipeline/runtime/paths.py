"""Paths on the command line, and the folders of a run that are inside its data."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from keras_ae import storage
from keras_ae.errors import ConfigurationError
from keras_ae.storage import PathOrUri


def expand(text: str) -> str:
    """Replaces a leading ~ by the home folder, as a shell does; a URI is returned as it is.

    Raises:
        ConfigurationError: if the text is empty.
    """
    if not text.strip():
        raise ConfigurationError("expected a path; got an empty text")
    # A URI must not become a Path, which would lose a slash.
    with suppress(RuntimeError):  # no such user
        return str(Path(text).expanduser()) if text.startswith("~") else text
    return text


def inside(data: str, folders: Mapping[str, PathOrUri]) -> dict[str, str]:
    """The folders that a run writes to and that are inside its data.

    Args:
        data: path or URI of the data.
        folders: path or URI of each folder by its name, such as "root". One that is inside
            another of them comes after it.

    Returns:
        The name by the path below the data, with slashes.

    Raises:
        ConfigurationError: if a folder is the data.
    """
    found: dict[str, str] = {}
    for name, folder in folders.items():
        if storage.is_uri(folder) != storage.is_uri(data):
            continue
        path, outer = _comparable(folder), _comparable(data)
        if path == outer:
            raise ConfigurationError(
                f"the {name} is the folder of --data, {data}: expected a different folder for what "
                "the run writes"
            )
        if path.is_relative_to(outer):
            relative = path.relative_to(outer)
            if not any(relative.is_relative_to(other) for other in found):
                found[relative.as_posix()] = name
    return found


def _comparable(path: PathOrUri) -> PurePosixPath:
    # Links are resolved, because a source lists the names of real folders.
    return PurePosixPath(str(path) if storage.is_uri(path) else os.path.realpath(path))
