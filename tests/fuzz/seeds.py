"""Inputs to begin with: small files of the corpus, and those that found a fault before."""

from pathlib import Path

from tests.corpus import archives
from tests.corpus.images import images

REGRESSIONS = Path(__file__).parent / "regressions"
MOST_BYTES = 8192


def seeds(target: str, scratch: Path) -> dict[str, bytes]:
    """Inputs by name.

    Args:
        target: a name of `tests.fuzz.targets.TARGETS`.
        scratch: an empty folder.
    """
    found = {path.name: path.read_bytes() for path in (REGRESSIONS / target).glob("*")}
    if target == "headers":
        found |= {name: content for name, (content, _) in images().items() if content}
    else:
        suffix = target.removesuffix("s")
        for archive in archives():
            if archive.name.endswith(".zip") == (suffix == "zip"):
                path = scratch / archive.name
                archive.make(path)
                if path.is_file():
                    found[archive.name] = path.read_bytes()
    return {name: data for name, data in found.items() if len(data) <= MOST_BYTES}
