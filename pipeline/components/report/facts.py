"""What a run was: its data, model, machine, packages and artifacts, for the report."""

import itertools
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tfx import types

from keras_ae import contract as c
from keras_ae import storage
from pipeline.components.image_example_gen.executor import QUARANTINE
from pipeline.runtime.environment import PACKAGES, machine, packages
from pipeline.runtime.fingerprint import ROOT

LISTED = 100
"""Quarantined images that are listed by name."""

_OF_STAGE = (
    "preset",
    "preset_settings",
    "parameters",
    "flops_per_pixel",
    "channels",
    "stride",
    "latent_channels",
    "tile",
    "tiles_per_epoch",
    "tiles_per_second",
    "decoded_bytes",
    "placement",
    "seed",
    "batch_size",
    "backend",
    "code_fingerprint",
)
_GIT_SECONDS = 10


def facts(
    examples: types.Artifact,
    stages: Mapping[str, Mapping[str, Any]],
    *,
    seeds: Sequence[int],
    command: str,
    data_fingerprint: str,
) -> dict[str, Any]:
    """Gathers what can be known of a run when it is reported.

    Args:
        examples: of ImageExampleGen.
        stages: summaries of all stages by name, as the Trainer writes them; the last stage of the
            first seed's ladder comes first.
        seeds: of all ladders.
        command: the command line that reproduces the run.
        data_fingerprint: digest of the data's content.

    Returns:
        What can be written as JSON: `data`, `images` (counts by split and of those `quarantined`),
        `quarantined` (`source` and `reason` of the first 100), what the first stage tells of model
        and training, `trained_on`, `seeds`, `packages` (versions) and `machine` of the report,
        `git`, `command`, `data_fingerprint` and `created` (ISO 8601, UTC).
    """
    counts = {name: examples.get_int_custom_property(name) for name in (*c.SPLITS, "quarantined")}
    stage = next(iter(stages.values()))
    return {
        "data": examples.get_string_custom_property("data"),
        "images": counts,
        "quarantined": _quarantined(storage.join(examples.uri, QUARANTINE)),
        **{name: stage[name] for name in _OF_STAGE},
        "trained_on": trained_on(stages),
        "seeds": list(seeds),
        "packages": packages((*PACKAGES, stage["backend"])),
        "machine": machine(),
        "git": git(ROOT),
        "command": command,
        "data_fingerprint": data_fingerprint,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def trained_on(stages: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The environments that stages were trained in, each with the names of its `stages`.

    There are several where a run takes up what another machine, or other settings, have trained.
    """
    found: list[dict[str, Any]] = []
    for name, stage in stages.items():
        told = stage["trained_on"]
        for known in found:
            if known == {"stages": known["stages"], **told}:
                known["stages"].append(name)
                break
        else:
            found.append({"stages": [name], **told})
    return found


def git(folder: Path) -> dict[str, Any] | None:
    """`commit` of a folder, and whether it is `dirty`: tracked files differ from the commit.

    None where the folder is not the top of a checkout, or git is missing.
    """
    top = _ask_git(folder, "rev-parse", "--show-toplevel")
    commit = _ask_git(folder, "rev-parse", "HEAD")
    changes = _ask_git(folder, "status", "--porcelain", "--untracked-files=no")
    if top is None or commit is None or changes is None or not Path(top).samefile(folder):
        return None
    return {"commit": commit, "dirty": bool(changes)}


def lineage(
    consumed: Mapping[str, Sequence[types.Artifact]], pipeline_root: str | Path
) -> list[dict[str, Any]]:
    """The artifacts that a node reads, as ML Metadata knows them.

    Args:
        consumed: by input, as an executor gets them.
        pipeline_root: path or URI of the folder of all artifacts of the pipeline.

    Returns:
        Of each artifact, `id`, `type`, `node` that made it (null for one from outside the
        pipeline), `name` of the input, and `uri`, relative to the root where it lies below it. In
        order of the nodes' lowest ids, and of one node, which gets its ids in any order, of names.
    """
    listed, root = [], f"{pipeline_root}/"
    for name, inputs in consumed.items():
        for artifact in inputs:
            inside = artifact.uri.startswith(root)
            relative = artifact.uri.removeprefix(root)
            listed.append(
                {
                    "id": artifact.id,
                    "type": artifact.type_name,
                    "node": relative.partition("/")[0] if inside else None,
                    "name": name,
                    "uri": relative,
                }
            )
    lowest: dict[str | None, int] = {}
    for entry in listed:
        lowest[entry["node"]] = min(entry["id"], lowest.get(entry["node"], entry["id"]))
    return sorted(listed, key=lambda entry: (lowest[entry["node"]], entry["name"]))


def _quarantined(uri: str) -> list[dict[str, str]]:
    if not storage.exists(uri):
        return []
    with storage.open_file(uri) as lines:
        return [json.loads(line) for line in itertools.islice(lines, LISTED)]


def _ask_git(folder: Path, *question: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *question],
            # Asking leaves the index alone.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
