"""The version folders that a server polls: which one is in service, and what is known of it."""

import json
from pathlib import Path
from typing import Any

from keras_ae import contract as c
from keras_ae import storage
from keras_ae.errors import ReadError
from keras_ae.saved_model import comparable
from keras_ae.storage import PathOrUri
from pipeline.runtime import artifacts
from pipeline.runtime.artifacts import PROVENANCE, model_digest

SAVED_MODEL = "Format-Serving"
"""Folder of the SavedModel in a Model artifact, as TFX names it."""
COMPARED, REFUSAL, DATA = "compared_digest", "refusal", "data"
"""Properties of a ModelBlessing: the digest of the model in service that the model was compared
with, why it could not be compared, and `data_facts` of the test images."""


def newest_version(base: PathOrUri) -> PathOrUri | None:
    """The version with the largest number, which is in service; None if there is none.

    It does not matter who wrote it. At a remote URI, folders without `saved_model.pb` do not count.

    Args:
        base: path or URI of the folder of the versions.
    """
    for number in sorted(numbers(base), reverse=True):
        if not storage.is_uri(base):
            return Path(base) / str(number)
        version = storage.join(base, number)
        if storage.exists(storage.join(version, artifacts.LAST_FILE)):
            return version
    return None


def numbers(base: PathOrUri) -> list[int]:
    """The numbers of the versions in a folder."""
    found = [int(name) for name in storage.list_names(base) if name.isdecimal()]
    # In a bucket, which has no folders, that would be one request for each number.
    return [n for n in found if storage.is_uri(base) or Path(base, str(n)).is_dir()]


def provenance(version: PathOrUri) -> dict[str, Any]:
    """The facts that export and Pusher wrote to a version; empty for that of another program."""
    file = storage.join(version, PROVENANCE)
    try:
        return dict(json.loads(storage.read_file(file))) if storage.exists(file) else {}
    except (OSError, ReadError, ValueError, TypeError):
        return {}


def data_facts(examples: Any) -> dict[str, str | int]:
    """What identifies the splits of a run: the fingerprint of its data, and the images in each.

    Args:
        examples: artifact of ImageExampleGen.
    """
    counts = {split: examples.get_int_custom_property(split) for split in c.SPLITS}
    return {"fingerprint": examples.get_string_custom_property("fingerprint"), **counts}


def saved_model(model: PathOrUri) -> PathOrUri:
    """The folder of the SavedModel of a Model artifact, or of a version folder."""
    below = storage.join(model, SAVED_MODEL)
    return below if storage.is_folder(below) else model


def digest(model: PathOrUri) -> str:
    """SHA-256 of a SavedModel: the recorded one of a version that Pusher wrote, else computed.

    Args:
        model: path or URI of a version folder, or of a Model artifact.

    Raises:
        StorageError: if a model at a URI cannot be read.
    """
    return str(provenance(model).get("digest") or computed_digest(model))


def computed_digest(model: PathOrUri) -> str:
    """SHA-256 of the files of a SavedModel, or a text that names it if they cannot be read.

    Args:
        model: path or URI of a version folder, or of a Model artifact.

    Raises:
        StorageError: if a model at a URI cannot be read.
    """
    try:
        with artifacts.fetched(saved_model(model)) as folder:
            return model_digest(folder)
    except OSError:
        return f"unreadable: {model}"


def intact(version: PathOrUri) -> bool:
    """Whether the files of a version match the digest in its provenance, if it has one.

    Raises:
        StorageError: if a version at a URI cannot be read.
    """
    recorded = provenance(version).get("digest")
    return recorded is None or recorded == computed_digest(version)


def refusal(model: PathOrUri, fault: str) -> str:
    """Why a model is not pushed if it cannot be compared with the one in service, and a way out.

    Args:
        model: path or URI of the model in service.
        fault: what it is or lacks.
    """
    return (
        f"it cannot be compared with the model in service, {model}, which {fault}; to push it "
        "without this comparison, add --replace"
    )


def fault(version: Path, channels: int) -> str:
    """Why a model cannot be compared with a version, as far as that is seen without loading it.

    Args:
        version: the folder, or a copy of it.
        channels: channels of the images of the model.

    Returns:
        What the version is or lacks, to follow its name; empty if nothing was found.
    """
    if not intact(version):
        return "is damaged: its files are not those that were pushed"
    return comparable.signature_fault(version, channels)
