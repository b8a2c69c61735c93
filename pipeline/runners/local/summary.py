"""The summary that is printed at the end of a run, from its artifacts in ML Metadata."""

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from keras_ae import durable, scores
from pipeline.runtime import console

if TYPE_CHECKING:
    from keras_ae.comparison.records import Verdict

CHECKOUT = Path(__file__).parents[3]
"""The folder with the packages pipeline and serving."""


def artifacts_of_last_run(connection: Any, pipeline_name: str) -> dict[str, list[mlmd.Artifact]]:
    """The artifacts of a pipeline's newest run, new or cached, by the name of their type."""
    store = MetadataStore(connection)
    pipeline = store.get_context_by_type_and_name("pipeline", pipeline_name)
    children = store.get_children_contexts_by_context(pipeline.id)
    newest = max(child.id for child in children if child.type == "pipeline_run")
    artifacts: dict[str, list[mlmd.Artifact]] = {}
    for artifact in store.get_artifacts_by_context(newest):
        artifacts.setdefault(artifact.type, []).append(artifact)
    return artifacts


def print_findings(connection: Any, pipeline_name: str) -> None:
    """Prints how ingest divided the images, and what it did not read."""
    from pipeline.components.image_example_gen import findings

    (examples,) = artifacts_of_last_run(connection, pipeline_name)["Examples"]
    texts = {name: value.string_value for name, value in examples.custom_properties.items()}
    for line in findings.lines(texts):
        console.say(line)


def print_summary(
    arguments: argparse.Namespace, connection: Any, pipeline_name: str, cached: Mapping[str, bool]
) -> None:
    """Prints the summary of a run, and copies the report to the root.

    Args:
        arguments: the run's, of `pipeline.run_local.parse_arguments`.
        connection: configuration of the connection to ML Metadata.
        cached: whether a node's outputs were taken from the cache, by its id.
    """
    from keras_ae.comparison import records
    from keras_ae.comparison.terminal import format_table
    from keras_ae.comparison.trials import format_summary
    from pipeline.components.image_example_gen.executor import QUARANTINE
    from pipeline.components.report.executor import REPORT

    artifacts = artifacts_of_last_run(connection, pipeline_name)
    (examples,), (report,) = artifacts["Examples"], artifacts["pipeline.ReportArtifact"]
    for name in (scores.COMPARISON, scores.IMAGES, REPORT):
        durable.copy(Path(report.uri, name), arguments.root / name)
    comparison = records.read(Path(report.uri, scores.COMPARISON))
    console.say(f"\n{format_table(comparison)}\n")
    if comparison.run and comparison.run.latent:
        console.say(f"latent: {comparison.run.latent}")
    if tuning := comparison.tuning:
        console.say(f"tuned: {format_summary(tuning, comparison.trials)}")
    console.say(comparison.answer.sentence)
    console.say(f"chosen: {comparison.chosen.reason}")
    for note in comparison.answer.notes:
        console.say(f"note: {note.text}")
    if count := examples.custom_properties["quarantined"].int_value:
        images = "1 image" if count == 1 else f"{count:,} images"
        console.say(f"quarantined: {images}, see {Path(examples.uri, QUARANTINE)}")
    if all(hit for node, hit in cached.items() if node.startswith("Trainer")):
        console.say("trained nothing: data, flags and code are those of an earlier run")
    console.say(f"report: {arguments.root / REPORT}")
    _print_mlflow(arguments, {k: v.string_value for k, v in report.custom_properties.items()})
    if comparison.verdict:
        _print_push(arguments.push_dir, artifacts, comparison.verdict)


def _print_mlflow(arguments: argparse.Namespace, properties: Mapping[str, str]) -> None:
    from pipeline.components.report.executor import MLFLOW_FAILURE, MLFLOW_RUN

    if failure := properties.get(MLFLOW_FAILURE):
        console.say(f"warning: {failure}")
    elif run := properties.get(MLFLOW_RUN):
        console.say(f"mlflow: run {run} of {arguments.mlflow_experiment!r}")


def _print_push(push_dir: Path, artifacts: dict[str, list[Any]], verdict: "Verdict") -> None:
    from pipeline.components.pusher.executor import ARRIVED, UNCHANGED
    from pipeline.components.report.verdict import reasons

    why = reasons(verdict)
    for note in verdict.notes:
        console.say(f"note: {note}")
    if not verdict.blessed:
        console.say(f"not pushed: the model is not blessed: {'; '.join(why)}")
        return
    for reason in why:
        console.say(f"blessed: {reason}")
    pushed, check = (
        max(artifacts[kind], key=lambda artifact: artifact.id).custom_properties
        for kind in ("PushedModel", "InfraBlessing")
    )
    if pushed["pushed"].int_value:
        console.say(f"pushed: {pushed['pushed_destination'].string_value}")
    elif UNCHANGED in pushed:
        console.say(f"not pushed: {pushed[UNCHANGED].string_value} is this model already")
    elif ARRIVED in pushed:
        console.say(
            f"not pushed: {pushed[ARRIVED].string_value} came into service after this run had "
            "begun: run it again to compare the model with it"
        )
        return
    else:
        reason = check["reason"].string_value
        console.say(f"not pushed: served predictions differ from the trained model: {reason}")
        return
    console.say(f"serve: {_serve_command(push_dir)}")


def _serve_command(push_dir: Path) -> str:
    """The command that serves a push folder, from any working directory."""
    flags = f"--rest_api_port=8501 --model_name=keras_ae --model_base_path={_quoted(push_dir)}"
    if not (CHECKOUT / "serving" / "server").is_dir():
        return (
            f"tensorflow_model_server --port=8500 {flags} (or, in a checkout of keras-ae: python "
            "-m serving.server with the same flags)"
        )
    return f"cd {_quoted(CHECKOUT)} && {_quoted(sys.executable)} -m serving.server {flags}"


def _quoted(path: Path | str) -> str:
    return shlex.quote(str(path))
