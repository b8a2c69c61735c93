"""Differences between the results of two roots, and files that a run should not leave."""

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

_RUN_SPECIFIC = ("seconds", "per_second", "created", "command", "id", "uri")
"""Suffixes of the keys whose values differ between equivalent runs: times, paths, identifiers."""

Arrays = dict[str, np.ndarray]


def find_differences(one: Path, other: Path) -> list[str]:
    """How two roots differ in training states, models, pushed versions and comparison."""
    found = []
    for name, read in (("state", _states), ("model", _models), ("version", _versions)):
        ours, theirs = read(one), read(other)
        if ours.keys() != theirs.keys():
            found.append(f"{name}: {sorted(ours)} became {sorted(theirs)}")
        for key in ours.keys() & theirs.keys():
            found += [f"{name} {key}: {array}" for array in _unequal(ours[key], theirs[key])]
    ours, theirs = (json.loads((root / "comparison.json").read_text()) for root in (one, other))
    differing = _compare_json(without_run_details(ours), without_run_details(theirs))
    found += [f"comparison: {difference}" for difference in differing]
    return found


def find_stray_files(root: Path, temporary: Path) -> list[str]:
    """Temporary files, and outputs of no execution, that remain when a run has ended.

    Args:
        root: root of the run.
        temporary: the system's folder for temporary files, as set for the run.
    """
    found = [path for path in temporary.rglob("*") if path.is_file()]
    expected = {"artifacts", "checksums", "logs", "serving", "lock", "metadata.sqlite"}
    expected |= {"run.yaml", "comparison.json", "images.jsonl", "report.html"}
    found += [path for path in root.iterdir() if path.name not in expected]
    found += [path for path in root.glob("serving/*/*") if not path.name.isdigit()]
    published = _published_uris(root)
    for path in root.glob("artifacts/*/*/*/*"):
        if path.parent.name != ".system" and str(path) not in published:
            found.append(path)
    found += [path for path in root.glob("artifacts/*/*/.system/**/*") if path.is_file()]
    patterns = ("beam-temp-*", "*.partial", ".probe-*", ".temp")
    found += [path for pattern in patterns for path in root.rglob(pattern)]
    return sorted(set(map(str, found)))


def _published_uris(root: Path) -> set[str]:
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(root / "metadata.sqlite")
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READONLY
    artifacts = MetadataStore(config).get_artifacts()
    return {artifact.uri for artifact in artifacts if artifact.state == mlmd.Artifact.LIVE}


def _states(root: Path) -> dict[str, Arrays]:
    found = {}
    for path in root.glob(f"artifacts/*/Trainer_*/model/*/{STATE}"):
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name != "seconds"}
        found[_trainer(path, STATE)] = arrays
    return found


def _models(root: Path) -> dict[str, Arrays]:
    found = {}
    for path in root.glob(f"artifacts/*/Trainer_*/model/*/{MODEL}"):
        with zipfile.ZipFile(path) as archive:
            data = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(data) as file:
            arrays: Arrays = {}
            file.visititems(lambda name, item, arrays=arrays: _add_dataset(arrays, name, item))
        found[_trainer(path, MODEL)] = arrays
    return found


def _versions(root: Path) -> dict[str, Arrays]:
    """Variables of the pushed versions by their order: the names of versions are times."""
    found = {}
    versions = sorted((root / "serving" / "keras_ae").glob("[0-9]*"))
    for i, version in enumerate(versions):
        files = version.glob("variables/*")
        found[str(i)] = {path.name: np.fromfile(path, np.uint8) for path in files}
    return found


def _trainer(path: Path, below: Path) -> str:
    return path.parents[len(below.parts) + 1].name


def _add_dataset(arrays: Arrays, name: str, item: Any) -> None:
    if isinstance(item, h5py.Dataset):
        arrays[name] = np.asarray(item)


def _unequal(one: Arrays, other: Arrays) -> list[str]:
    names = sorted(one.keys() | other.keys())
    return [
        name
        for name in names
        if name not in one or name not in other or not np.array_equal(one[name], other[name])
    ]


def without_run_details(value: Any) -> Any:
    """A value of `comparison.json` without the entries that differ between equivalent runs."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if not key.endswith(_RUN_SPECIFIC)}
        return {key: without_run_details(item) for key, item in kept.items()}
    if isinstance(value, list):
        return [without_run_details(item) for item in value]
    return value


def _compare_json(one: Any, other: Any, path: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _compare_json(one.get(key), other.get(key), f"{path}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, (a, b) in enumerate(zip(one, other)):
            yield from _compare_json(a, b, f"{path}/{i}")
    elif one != other:
        yield f"{path}: {one!r} became {other!r}"[:300]
