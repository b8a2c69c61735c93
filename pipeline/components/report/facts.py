"""What a run was: its data, model, machine, packages and artifacts, for the report."""

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

LISTED = 100
"""Quarantined images that are listed by name."""

_GIT_SECONDS = 10


def facts(
    examples: types.Artifact,
    stages: Mapping[str, StageSummary],
    *,
    seeds: Sequence[int],
    command: str,
    data_fingerprint: str,
    lineage: Sequence[Artifact],
) -> Run:
    """Gathers what can be known of a run when it is reported.

    Args:
        examples: of ImageExampleGen.
        stages: summaries of all stages by name; the last stage of the first seed's ladder comes
            first.
        seeds: of all ladders.
        command: the command line that reproduces the run.
        data_fingerprint: digest of the data's content.
        lineage: what the report is made of.

    Returns:
        What the first stage says of model and training, with the rest.
    """
    counts = {name: examples.get_int_custom_property(name) for name in (*c.SPLITS, "quarantined")}
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
        machine=Machine(**machine()),
        git=git(ROOT),
        command=command,
        data_fingerprint=data_fingerprint,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        lineage=tuple(lineage),
    )


def trained_on(stages: Mapping[str, StageSummary]) -> tuple[TrainingEnvironment, ...]:
    """The environments that stages were trained in, each with the names of its `stages`.

    There are several where a run takes up what another machine, or other settings, have trained.
    """
    environments = [stage.trained_on for stage in stages.values()]
    found = [e for place, e in enumerate(environments) if e not in environments[:place]]
    return tuple(
        TrainingEnvironment(stages=tuple(n for n, s in stages.items() if s.trained_on == e), **e)
        for e in found
    )


def git(folder: Path) -> Commit | None:
    """The commit of a folder, and whether tracked files differ from it.

    None where the folder is not the top of a checkout, or git is missing.
    """
    top = _ask_git(folder, "rev-parse", "--show-toplevel")
    commit = _ask_git(folder, "rev-parse", "HEAD")
    changes = _ask_git(folder, "status", "--porcelain", "--untracked-files=no")
    if top is None or commit is None or changes is None or not Path(top).samefile(folder):
        return None
    return Commit(commit=commit, dirty=bool(changes))


def lineage(
    consumed: Mapping[str, Sequence[types.Artifact]], pipeline_root: str | Path
) -> list[Artifact]:
    """The artifacts that a node reads, as ML Metadata knows them.

    Args:
        consumed: by input, as an executor gets them.
        pipeline_root: path or URI of the folder of all artifacts of the pipeline.

    Returns:
        In order of the nodes' lowest ids, and of one node, which gets its ids in any order, of the
        inputs' names.
    """
    listed, root = [], f"{pipeline_root}/"
    for name, inputs in consumed.items():
        for artifact in inputs:
            inside = artifact.uri.startswith(root)
            relative = artifact.uri.removeprefix(root)
            listed.append(
                Artifact(
                    id=artifact.id,
                    type=artifact.type_name,
                    node=relative.partition("/")[0] if inside else None,
                    name=name,
                    uri=relative,
                )
            )
    lowest: dict[str | None, int] = {}
    for entry in listed:
        lowest[entry.node] = min(entry.id, lowest.get(entry.node, entry.id))
    return sorted(listed, key=lambda entry: (lowest[entry.node], entry.name))


def _quarantined(uri: str) -> tuple[QuarantinedImage, ...]:
    if not storage.exists(uri):
        return ()
    with storage.open_file(uri) as lines:
        first = itertools.islice(lines, LISTED)
        return tuple(QuarantinedImage.model_validate_json(line) for line in first)


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
