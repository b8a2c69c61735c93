"""What a run left in ML Metadata."""

from pathlib import Path
from typing import Any

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd


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
    """Images that ImageExampleGen set aside."""
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
