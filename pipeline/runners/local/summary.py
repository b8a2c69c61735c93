"""The summary that is printed at the end of a run, from its artifacts in ML Metadata."""

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from keras_ae import durable, scores
from pipeline.runtime import console

if TYPE_CHECKING:
    from keras_ae.comparison.records import Verdict


def artifacts_of_last_run(connection: Any, pipeline_name: str) -> dict[str, list[mlmd.Artifact]]:
    """The artifacts of a pipeline's newest run, new or cached, by the name of their type."""
    store = MetadataStore(connection)
    runs = [
        run
        for run in store.get_contexts_by_type("pipeline_run")
        if any(
            parent.name == pipeline_name for parent in store.get_parent_contexts_by_context(run.id)
        )
    ]
    newest = max(runs, key=lambda run: run.id)
    types = {kind.id: kind.name for kind in store.get_artifact_types()}
    artifacts: dict[str, list[mlmd.Artifact]] = {}
    for artifact in store.get_artifacts_by_context(newest.id):
        artifacts.setdefault(types[artifact.type_id], []).append(artifact)
    return artifacts


def quarantined(examples: mlmd.Artifact) -> int:
    """How many images ImageExampleGen quarantined."""
    return int(examples.custom_properties["quarantined"].int_value)


def refusal(artifacts: dict[str, list[mlmd.Artifact]]) -> str:
    """Why ServingCheck refused a blessed model; empty if it did not."""
    newest = max(artifacts["InfraBlessing"], key=lambda artifact: artifact.id)
    return str(newest.custom_properties["reason"].string_value)


def texts(artifact: mlmd.Artifact) -> dict[str, str]:
    """The custom properties of an artifact as texts, by name."""
    return {name: value.string_value for name, value in artifact.custom_properties.items()}


def folder(artifact: mlmd.Artifact) -> Path:
    """The folder of an artifact."""
    return Path(artifact.uri)


def print_findings(connection: Any, lineage: str) -> None:
    """Prints how ingest divided the images, and what it did not read."""
    from pipeline.components.image_example_gen import findings

    (examples,) = artifacts_of_last_run(connection, lineage)["Examples"]
    for line in findings.lines(texts(examples)):
        console.say(line)


def print_summary(
    arguments: argparse.Namespace, connection: Any, lineage: str, cached: Mapping[str, bool]
) -> None:
    """Prints the summary of a run, and copies the report to the root.

    Args:
        arguments: the run's, of `pipeline.run_local.parse_arguments`.
        connection: configuration of the connection to ML Metadata.
        lineage: name of the pipeline.
        cached: whether a node's outputs were taken from the cache, by its id.
    """
    from keras_ae.comparison import records
    from keras_ae.comparison.terminal import format_table
    from keras_ae.tuning import search_space
    from pipeline.components.image_example_gen.executor import QUARANTINE
    from pipeline.components.report.executor import REPORT

    artifacts = artifacts_of_last_run(connection, lineage)
    (examples,), (report_artifact,) = artifacts["Examples"], artifacts["pipeline.ReportArtifact"]
    report_folder = folder(report_artifact)
    for name in (scores.COMPARISON, scores.IMAGES, REPORT):
        durable.copy(report_folder / name, arguments.root / name)
    comparison = records.read(report_folder / scores.COMPARISON)
    console.say(f"\n{format_table(comparison)}\n")
    if tuning := comparison.tuning:
        trials = [search_space.Trial(**trial.model_dump()) for trial in comparison.trials]
        summary = search_space.format_summary(
            trials, preset=tuning.preset, epochs=tuning.epochs, failed=tuning.failed
        )
        console.say(f"tuned: {summary}")
    console.say(comparison.answer.sentence)
    console.say(f"chosen: {comparison.chosen.reason}")
    for note in comparison.answer.notes:
        console.say(f"note: {note.text}")
    if count := quarantined(examples):
        images = "1 image" if count == 1 else f"{count:,} images"
        console.say(f"quarantined: {images}, see {folder(examples) / QUARANTINE}")
    if all(hit for node, hit in cached.items() if node.startswith("Trainer")):
        console.say("trained nothing: data, flags and code are those of an earlier run")
    console.say(f"report: {arguments.root / REPORT}")
    _print_mlflow(arguments, texts(report_artifact))
    if comparison.verdict:
        _print_push(arguments.push_dir, artifacts, comparison.verdict)


def _print_mlflow(arguments: argparse.Namespace, properties: Mapping[str, str]) -> None:
    from pipeline.components.report.executor import MLFLOW_FAILURE, MLFLOW_RUN

    if failure := properties.get(MLFLOW_FAILURE):
        console.say(f"warning: {failure}")
    elif run := properties.get(MLFLOW_RUN):
        console.say(f"mlflow: run {run} of {arguments.mlflow_experiment!r}")


def _print_push(push_dir: Path, artifacts: dict[str, list[Any]], verdict: "Verdict") -> None:
    from pipeline.components.pusher.executor import UNCHANGED
    from pipeline.components.report.verdict import reasons

    why = reasons(verdict)
    if not verdict.blessed:
        console.say(f"not pushed: the model is not blessed: {'; '.join(why)}")
        return
    for reason in why:
        console.say(f"blessed: {reason}")
    pushed = max(artifacts["PushedModel"], key=lambda artifact: artifact.id).custom_properties
    if pushed["pushed"].int_value:
        console.say(f"pushed: {pushed['pushed_destination'].string_value}")
    elif UNCHANGED in pushed:
        console.say(f"not pushed: {pushed[UNCHANGED].string_value} is this model already")
    else:
        reason = refusal(artifacts)
        console.say(f"not pushed: served predictions differ from the trained model: {reason}")
        return
    console.say(
        "serve: python -m serving.server --rest_api_port=8501 --model_name=keras_ae "
        f"--model_base_path={shlex.quote(str(push_dir))}"
    )
