"""A corpus of hostile and good files; `python -m tests.corpus FOLDER` writes it."""

import functools
from pathlib import Path

from tests.corpus.archives import archives
from tests.corpus.entries import Archive
from tests.corpus.files import OUTSIDE, files
from tests.corpus.hostile_arrays import hostile_arrays, hostile_tables
from tests.corpus.pictures import encoded, picture

IMAGES, ARCHIVES = "images", "archives"


@functools.cache
def sources() -> list[Archive]:
    """Archives, arrays and tables."""
    return [*archives(), *hostile_arrays(), *hostile_tables()]


def write(folder: Path) -> None:
    """Writes a folder of images, one of `sources`, and one outside that no link may reach."""
    for name in (IMAGES, ARCHIVES, OUTSIDE):
        (folder / name).mkdir(parents=True)
    (folder / OUTSIDE / "secret.png").write_bytes(encoded(picture(999), "PNG"))
    for file in files():
        path = folder / IMAGES / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        file.write(path)
    for archive in sources():
        archive.write(folder / ARCHIVES / archive.name)
