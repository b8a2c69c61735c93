"""Hostile files, and good ones beside them; `python -m tests.corpus FOLDER` writes them."""

from pathlib import Path

from tests.corpus.archives import archives
from tests.corpus.files import OUTSIDE, files
from tests.corpus.pictures import encoded, picture

IMAGES, ARCHIVES = "images", "archives"


def write(place: Path) -> None:
    """Writes a folder of images, a folder of archives, and one that nothing may reach."""
    for name in (IMAGES, ARCHIVES, OUTSIDE):
        (place / name).mkdir(parents=True)
    (place / OUTSIDE / "secret.png").write_bytes(encoded(picture(999), "PNG"))
    for file in files():
        path = place / IMAGES / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        file.make(path)
    for archive in archives():
        archive.make(place / ARCHIVES / archive.name)
