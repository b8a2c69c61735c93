"""What two roots differ in, and what a root holds that no run should leave."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.runtime.artifacts import MODEL, STATE

_OF_A_RUN = ("seconds", "per_second", "created", "command", "id", "uri")
"""Ends of the names of what two runs that are alike differ in: times, places, numbers."""


def differences(one: Path, other: Path) -> list[str]:
    """How what two roots' runs made differs: states, models, comparison, what was pushed."""
    found = []
    for name, read in (("state", _states), ("model", _models), ("version", _versions)):
        ours, theirs = read(one), read(other)
        if ours.keys() != theirs.keys():
            found.append(f"{name}: {sorted(ours)} became {sorted(theirs)}")
        for key in ours.keys() & theirs.keys():
            found += [f"{name} {key}: {each}" for each in _unlike(ours[key], theirs[key])]
    ours, theirs = (json.loads((root / "comparison.json").read_text()) for root in (one, other))
    found += [f"comparison: {place}" for place in _changed(_alike(ours), _alike(theirs))]
    return found


def strays(root: Path, temporary: Path) -> list[str]:
    """What lies about when a run has ended: temporary files, and outputs of no execution.

    Args:
        root: of the run.
        temporary: the system's folder for temporary files, as the run knew it.
    """
    found = [path for path in temporary.rglob("*") if path.is_file()]
    usual = {"artifacts", "checksums", "logs", "serving", "lock", "metadata.sqlite"}
    usual |= {"run.yaml", "comparison.json", "images.jsonl", "report.html"}
    found += [path for path in root.iterdir() if path.name not in usual]
    found += [path for path in root.glob("serving/*/*") if not path.name.isdigit()]
    published = _published(root)
    for path in root.glob("artifacts/*/*/*/*"):
        if path.parent.name != ".system" and str(path) not in published:
            found.append(path)
    systems = root.glob("artifacts/*/*/.system/**/*")
    found += [path for path in systems if path.is_file()]
    names = ("beam-temp-*", "*.partial", ".probe-*", ".temp")
    found += [path for name in names for path in root.rglob(name)]
    return sorted(set(map(str, found)))


def _published(root: Path) -> set[str]:
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(root / "metadata.sqlite")
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READONLY
    artifacts = MetadataStore(config).get_artifacts()
    return {each.uri for each in artifacts if each.state == mlmd.Artifact.LIVE}


def _states(root: Path) -> dict[str, dict[str, np.ndarray]]:
    found = {}
    for path in root.glob(f"artifacts/*/Trainer_*/model/*/{STATE}"):
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name != "seconds"}
        found[_trainer(path, STATE)] = arrays
    return found


def _models(root: Path) -> dict[str, dict[str, np.ndarray]]:
    found = {}
    for path in root.glob(f"artifacts/*/Trainer_*/model/*/{MODEL}"):
        with zipfile.ZipFile(path) as archive:
            data = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(data) as file:
            arrays: dict[str, np.ndarray] = {}
            file.visititems(lambda name, each, arrays=arrays: _note(arrays, name, each))
        found[_trainer(path, MODEL)] = arrays
    return found


def _versions(root: Path) -> dict[str, dict[str, np.ndarray]]:
    """In order: the names are times."""
    found = {}
    versions = sorted((root / "serving" / "keras_ae").glob("[0-9]*"))
    for i, version in enumerate(versions):
        files = version.glob("variables/*")
        found[str(i)] = {path.name: np.fromfile(path, np.uint8) for path in files}
    return found


def _trainer(path: Path, below: Path) -> str:
    return path.parents[len(below.parts) + 1].name


def _note(arrays: dict[str, np.ndarray], name: str, each: Any) -> None:
    if isinstance(each, h5py.Dataset):
        arrays[name] = np.asarray(each)


def _unlike(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> list[str]:
    names = sorted(one.keys() | other.keys())
    return [
        name
        for name in names
        if name not in one or name not in other or not np.array_equal(one[name], other[name])
    ]


def _alike(value: Any) -> Any:
    """What two runs that are alike must have in common."""
    if isinstance(value, dict):
        kept = {key: each for key, each in value.items() if not key.endswith(_OF_A_RUN)}
        return {key: _alike(each) for key, each in kept.items()}
    if isinstance(value, list):
        return [_alike(each) for each in value]
    return value


def _changed(one: Any, other: Any, place: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _changed(one.get(key), other.get(key), f"{place}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, (a, b) in enumerate(zip(one, other)):
            yield from _changed(a, b, f"{place}/{i}")
    elif one != other:
        yield f"{place}: {one!r} became {other!r}"[:300]
