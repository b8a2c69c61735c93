"""The description of a run in its report: data, model, machine, packages and artifacts."""

import itertools
import os
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tfx import types

from keras_ae import contract as c
from keras_ae import storage
from keras_ae.comparison.records import (
    Artifact,
    Commit,
    QuarantinedImage,
    Run,
    RunImages,
    TrainingEnvironment,
)
from keras_ae.presets import describe_latent
from keras_ae.stages import Environment, StageSummary
from pipeline.components.image_example_gen import findings
from pipeline.components.image_example_gen.executor import QUARANTINE
from pipeline.runtime.environment import PACKAGES, machine, packages
from pipeline.runtime.fingerprint import ROOT

MAX_LISTED = 100
"""Maximum number of quarantined images that are listed."""

_GIT_TIMEOUT_SECONDS = 10


def describe_run(
    examples: types.Artifact,
    stages: Mapping[str, StageSummary],
    *,
    seeds: Sequence[int],
    command: str,
    data_fingerprint: str,
    lineage: Sequence[Artifact],
) -> Run:
    """Describes a run when its report is written; see `Run` for the fields.

    Args:
        examples: output of ImageExampleGen.
        stages: summaries of all stages by name; the last stage of the first seed's ladder comes
            first, and gives the facts of model and training.
    """
    counts = {name: examples.get_int_custom_property(name) for name in (*c.SPLITS, "quarantined")}
    if copies := examples.get_int_custom_property("copies"):
        counts["copies"] = copies
    stage = next(iter(stages.values()))
    common = (Run.model_fields.keys() & StageSummary.model_fields.keys()) - {"trained_on"}
    return Run(
        **{name: getattr(stage, name) for name in common},
        latent=describe_latent(stage.latent_channels, stage.stride, stage.channels),
        data=examples.get_string_custom_property("data"),
        images=RunImages(**counts),
        levels=examples.get_string_custom_property(findings.LEVELS) or None,
        splits=examples.get_string_custom_property(findings.SPLITS) or None,
        not_read=findings.not_read(
            {findings.NOT_READ: examples.get_string_custom_property(findings.NOT_READ)}
        ),
        quarantined=_quarantined(storage.join(examples.uri, QUARANTINE)),
        trained_on=trained_on(stages),
        seeds=tuple(seeds),
        packages=packages((*PACKAGES, stage.backend)),
        machine=machine(),
        git=git(ROOT),
        command=command,
        data_fingerprint=data_fingerprint,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        lineage=tuple(lineage),
    )


def trained_on(stages: Mapping[str, StageSummary]) -> tuple[TrainingEnvironment, ...]:
    """The environments that stages were trained in, each with the names of its `stages`: several,
    if a run continues what was trained on another machine, or with other settings."""
    distinct: list[tuple[Environment, list[str]]] = []
    for name, stage in stages.items():
        names = next((names for e, names in distinct if e == stage.trained_on), None)
        if names is None:
            distinct.append((stage.trained_on, names := []))
        names.append(name)
    return tuple(TrainingEnvironment(**dict(e), stages=tuple(names)) for e, names in distinct)


def git(folder: Path) -> Commit | None:
    """The commit of a folder, and whether tracked files differ from it; None where the folder is
    not the top of a checkout, or git is missing."""
    top = _git_output(folder, "rev-parse", "--show-toplevel")
    commit = _git_output(folder, "rev-parse", "HEAD")
    changes = _git_output(folder, "status", "--porcelain", "--untracked-files=no")
    if top is None or commit is None or changes is None or not Path(top).samefile(folder):
        return None
    return Commit(commit=commit, dirty=bool(changes))


def lineage(
    consumed: Mapping[str, Sequence[types.Artifact]], pipeline_root: str | Path
) -> list[Artifact]:
    """The artifacts that a node reads by name of the input, as ML Metadata knows them.

    They are in the order of the lowest id of their node; those of one node, whose ids are in no
    fixed order, by the name of the input.
    """
    entries: list[Artifact] = []
    lowest: dict[str | None, int] = {}
    for name, artifacts in consumed.items():
        for each in artifacts:
            uri = each.uri.removeprefix(f"{pipeline_root}/")
            node = uri.partition("/")[0] if uri != each.uri else None
            entries.append(Artifact(id=each.id, type=each.type_name, node=node, name=name, uri=uri))
            lowest[node] = min(each.id, lowest.get(node, each.id))
    return sorted(entries, key=lambda entry: (lowest[entry.node], entry.name))


def _quarantined(uri: str) -> tuple[QuarantinedImage, ...]:
    if not storage.exists(uri):
        return ()
    with storage.open_file(uri) as lines:
        listed = itertools.islice(lines, MAX_LISTED)
        return tuple(QuarantinedImage.model_validate_json(line) for line in listed)


def _git_output(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            # Without this, `git status` may write the index.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
