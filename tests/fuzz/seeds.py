"""Initial inputs: small files of the corpus, and inputs that found a fault before."""

from pathlib import Path

from tests.corpus import archives
from tests.corpus.arrays import arrays, tables
from tests.corpus.formats import samples
from tests.corpus.images import images
from tests.corpus.latents import latents

REGRESSIONS = Path(__file__).parent / "regressions"
MAX_BYTES = 8192


def seeds(target: str, scratch: Path) -> dict[str, bytes]:
    """Inputs by name.

    Args:
        target: a name of `tests.fuzz.targets.TARGETS`.
        scratch: an empty folder.
    """
    inputs = {path.name: path.read_bytes() for path in (REGRESSIONS / target).glob("*")}
    if target in ("headers", "pixels", "sent"):
        inputs |= {name: content for name, (content, _) in images().items() if content}
        inputs |= {sample.name: sample.data for sample in samples()}
    elif target == "arrays":
        inputs |= arrays()
    elif target == "tables":
        inputs |= tables()
    elif target == "latents":
        inputs |= latents()
    else:
        suffix = target.removesuffix("s")
        for archive in archives():
            if archive.name.endswith(".zip") == (suffix == "zip") and not archive.slow:
                path = scratch / archive.name
                archive.write(path)
                if path.is_file():
                    inputs[archive.name] = path.read_bytes()
    return {name: data for name, data in inputs.items() if len(data) <= MAX_BYTES}
