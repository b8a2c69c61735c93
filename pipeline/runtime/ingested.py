"""What ingest found out about the images, in a file of the Examples artifact for later steps."""

import dataclasses
import json

from keras_ae import storage
from keras_ae.datasets.images.levels import FULL_RANGE

FILE = "ingested.json"


@dataclasses.dataclass(frozen=True)
class Ingested:
    """Facts about the images of an Examples artifact.

    Attributes:
        white: level of 16-bit files that became 255.
        levels: how 16-bit files were read; empty if there are none.
        notes: sentences without full stops on some of the images.
    """

    white: int = FULL_RANGE
    levels: str = ""
    notes: tuple[str, ...] = ()


def write(facts: Ingested, uri: str) -> None:
    """Writes the facts to the folder of an Examples artifact."""
    text = json.dumps(dataclasses.asdict(facts), indent=1) + "\n"
    storage.write_file(storage.join(uri, FILE), text.encode())


def read(uri: str) -> Ingested:
    """Reads the facts from an Examples artifact; an artifact of an older version has defaults."""
    path = storage.join(uri, FILE)
    if not storage.exists(path):
        return Ingested()
    facts = json.loads(storage.read_file(path))
    return Ingested(facts["white"], facts["levels"], tuple(facts["notes"]))
