"""The description of a run in its report: data, model, machine, packages and artifacts."""

import dataclasses
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
    Machine,
    QuarantinedImage,
    Run,
    RunImages,
    TrainingEnvironment,
)
from pipeline.components.image_example_gen.executor import QUARANTINE
from pipeline.runtime.environment import PACKAGES, machine, packages
from pipeline.runtime.fingerprint import ROOT
from pipeline.runtime.stages import StageSummary

MAX_LISTED = 100
"""Maximum number of quarantined images that are listed."""

_GIT_TIMEOUT_SECONDS = 10


def facts(
    examples: types.Artifact,
    stages: Mapping[str, StageSummary],
    *,
    seeds: Sequence[int],
    command: str,
    data_fingerprint: str,
    lineage: Sequence[Artifact],
) -> Run:
    """Describes a run when its report is written.

    Args:
        examples: output of ImageExampleGen.
        stages: summaries of all stages by name; the last stage of the first seed's ladder comes
            first, and gives the facts of model and training.
        seeds: seeds of all ladders.
        command: the command line that reproduces the run.
        data_fingerprint: digest of the data's content.
        lineage: artifacts that the report is made from.
    """
    counts = {name: examples.get_int_custom_property(name) for name in (*c.SPLITS, "quarantined")}
    if copies := examples.get_int_custom_property("copies"):
        counts["copies"] = copies
    stage = next(iter(stages.values()))
    return Run(
        data=examples.get_string_custom_property("data"),
        images=RunImages(**counts),
        quarantined=_quarantined(storage.join(examples.uri, QUARANTINE)),
        preset=stage.preset,
        preset_settings=stage.preset_settings,
        parameters=stage.parameters,
        flops_per_pixel=stage.flops_per_pixel,
        channels=stage.channels,
        stride=stage.stride,
        latent_channels=stage.latent_channels,
        tile=stage.tile,
        tiles_per_epoch=stage.tiles_per_epoch,
        tiles_per_second=stage.tiles_per_second,
        decoded_bytes=stage.decoded_bytes,
        placement=stage.placement,
        seed=stage.seed,
        batch_size=stage.batch_size,
        backend=stage.backend,
        code_fingerprint=stage.code_fingerprint,
        trained_on=trained_on(stages),
        seeds=tuple(seeds),
        packages=packages((*PACKAGES, stage.backend)),
        machine=Machine(**dataclasses.asdict(machine())),
        git=git(ROOT),
        command=command,
        data_fingerprint=data_fingerprint,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        lineage=tuple(lineage),
    )


def trained_on(stages: Mapping[str, StageSummary]) -> tuple[TrainingEnvironment, ...]:
    """The environments that stages were trained in, each with the names of its `stages`.

    They differ if a run continues what was trained on another machine, or with other settings.
    """
    environments = [stage.trained_on for stage in stages.values()]
    distinct = [e for i, e in enumerate(environments) if e not in environments[:i]]
    return tuple(
        TrainingEnvironment(
            stages=tuple(name for name, stage in stages.items() if stage.trained_on == e),
            **dataclasses.asdict(e),
        )
        for e in distinct
    )


def git(folder: Path) -> Commit | None:
    """The commit of a folder, and whether tracked files differ from it.

    None where the folder is not the top of a checkout, or git is missing.
    """
    top = _git_output(folder, "rev-parse", "--show-toplevel")
    commit = _git_output(folder, "rev-parse", "HEAD")
    changes = _git_output(folder, "status", "--porcelain", "--untracked-files=no")
    if top is None or commit is None or changes is None or not Path(top).samefile(folder):
        return None
    return Commit(commit=commit, dirty=bool(changes))


def lineage(
    consumed: Mapping[str, Sequence[types.Artifact]], pipeline_root: str | Path
) -> list[Artifact]:
    """The artifacts that a node reads, as ML Metadata knows them.

    Args:
        consumed: the artifacts by name of the input, as an executor gets them.
        pipeline_root: path or URI of the folder of all artifacts of the pipeline.

    Returns:
        The artifacts in the order of the lowest id of their node; those of one node, whose ids are
        in no fixed order, by the name of the input.
    """
    entries, root = [], f"{pipeline_root}/"
    for name, artifacts in consumed.items():
        for artifact in artifacts:
            inside = artifact.uri.startswith(root)
            relative = artifact.uri.removeprefix(root)
            entries.append(
                Artifact(
                    id=artifact.id,
                    type=artifact.type_name,
                    node=relative.partition("/")[0] if inside else None,
                    name=name,
                    uri=relative,
                )
            )
    lowest: dict[str | None, int] = {}
    for entry in entries:
        lowest[entry.node] = min(entry.id, lowest.get(entry.node, entry.id))
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
