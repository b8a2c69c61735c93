"""The artifacts of a run, from ML Metadata, and the summary that is printed at its end."""

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from keras_ae import durable
from pipeline.runtime import console

if TYPE_CHECKING:
    from keras_ae.comparison.records import Verdict


def artifacts_of_last_run(connection: Any, pipeline_name: str) -> dict[str, list[mlmd.Artifact]]:
    """The artifacts of a pipeline's newest run, made or reused, by the name of their type."""
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
    found: dict[str, list[mlmd.Artifact]] = {}
    for artifact in store.get_artifacts_by_context(newest.id):
        found.setdefault(types[artifact.type_id], []).append(artifact)
    return found


def quarantined(examples: mlmd.Artifact) -> int:
    """Images that ImageExampleGen quarantined."""
    return int(examples.custom_properties["quarantined"].int_value)


def refusal(found: dict[str, list[mlmd.Artifact]]) -> str:
    """Why ServingCheck held back a model that was blessed; empty if it did not."""
    newest = max(found["InfraBlessing"], key=lambda artifact: artifact.id)
    return str(newest.custom_properties["reason"].string_value)


def texts(artifact: mlmd.Artifact) -> dict[str, str]:
    """What an executor noted on its artifact in words, by the name of the property."""
    return {name: value.string_value for name, value in artifact.custom_properties.items()}


def folder(artifact: mlmd.Artifact) -> Path:
    """Where an artifact lies."""
    return Path(artifact.uri)


def tell(
    arguments: argparse.Namespace, connection: Any, lineage: str, cached: Mapping[str, bool]
) -> None:
    """Prints the summary of a run, and copies the report to the root.

    Args:
        arguments: of the run.
        connection: of ML Metadata.
        lineage: name of the pipeline.
        cached: by node, whether it was taken from the cache.
    """
    from keras_ae.comparison import records
    from keras_ae.comparison.terminal import format_table
    from keras_ae.tuning import search_space
    from pipeline.components.image_example_gen.executor import QUARANTINE
    from pipeline.components.report import executor as report

    found = artifacts_of_last_run(connection, lineage)
    (examples,), (report_artifact,) = found["Examples"], found["pipeline.ReportArtifact"]
    place = folder(report_artifact)
    for name in (report.COMPARISON, report.IMAGES, report.REPORT):
        durable.copy(place / name, arguments.root / name)
    comparison = records.read(place / report.COMPARISON)
    console.say(f"\n{format_table(comparison)}\n")
    if comparison.tuning:
        trials = [trial.model_dump() for trial in comparison.trials]
        console.say(f"tuned: {search_space.summary(trials, comparison.tuning.model_dump())}")
    console.say(comparison.answer.sentence)
    console.say(f"chosen: {comparison.chosen.reason}")
    for note in comparison.answer.notes:
        console.say(f"note: {note.text}")
    if quarantined(examples):
        console.say(
            f"quarantined: {quarantined(examples)} images, see {folder(examples) / QUARANTINE}"
        )
    if all(hit for node, hit in cached.items() if node.startswith("Trainer")):
        console.say("trained nothing: data, flags and code are those of an earlier run")
    console.say(f"report: {arguments.root / report.REPORT}")
    _tell_mlflow(arguments, texts(report_artifact))
    if comparison.verdict:
        _tell_push(arguments.push_dir, found, comparison.verdict)


def _tell_mlflow(arguments: argparse.Namespace, told: Mapping[str, str]) -> None:
    from pipeline.components.report.executor import MLFLOW_FAILURE, MLFLOW_RUN

    if failure := told.get(MLFLOW_FAILURE):
        console.say(f"warning: {failure}")
    elif run := told.get(MLFLOW_RUN):
        console.say(f"mlflow: run {run} of {arguments.mlflow_experiment!r}")


def _tell_push(push_dir: Path, found: dict[str, list[Any]], verdict: "Verdict") -> None:
    from pipeline.components.pusher.executor import UNCHANGED
    from pipeline.components.report.verdict import reasons

    why = reasons(verdict)
    if not verdict.blessed:
        console.say(f"not pushed: the model is not blessed: {'; '.join(why)}")
        return
    for reason in why:
        console.say(f"blessed: {reason}")
    pushed = max(found["PushedModel"], key=lambda artifact: artifact.id).custom_properties
    if pushed["pushed"].int_value:
        console.say(f"pushed: {pushed['pushed_destination'].string_value}")
    elif UNCHANGED in pushed:
        console.say(f"not pushed: {pushed[UNCHANGED].string_value} is this model already")
    else:
        reason = refusal(found)
        console.say(f"not pushed: served predictions differ from the trained model: {reason}")
        return
    console.say(
        "serve: python -m serving.server --rest_api_port=8501 --model_name=keras_ae "
        f"--model_base_path={shlex.quote(str(push_dir))}"
    )
