"""A corpus of hostile and good files; `python -m tests.corpus FOLDER` writes it."""

from pathlib import Path

from tests.corpus.archives import archives
from tests.corpus.files import OUTSIDE, files
from tests.corpus.pictures import encoded, picture

IMAGES, ARCHIVES = "images", "archives"


def write(folder: Path) -> None:
    """Writes a folder of images, one of archives, and one outside that no link may reach."""
    for name in (IMAGES, ARCHIVES, OUTSIDE):
        (folder / name).mkdir(parents=True)
    (folder / OUTSIDE / "secret.png").write_bytes(encoded(picture(999), "PNG"))
    for file in files():
        path = folder / IMAGES / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        file.write(path)
    for archive in archives():
        archive.write(folder / ARCHIVES / archive.name)
