"""Keys TFX's cache by the content of a step's inputs, not by where and when they were written.

TFX treats an input that was written again as another one, even with the same content. Here a step
whose inputs have not changed in content is not run again, so that an artifact that was damaged and
written again costs no training.
"""

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.types.standard_component_specs import BASE_MODEL_KEY, BASELINE_MODEL_KEY, MODEL_KEY

from pipeline.runners import tfx_patches
from pipeline.runners.local.checksums import Checksums
from pipeline.runtime import console, versions

VERIFIED_BYTES = 4 * 2**30
"""How much of the newest artifacts is read before each run to find damage. It takes seconds."""

_SUCCESSFUL = (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)
_RECORD_FIELDS = ("id", "create_time_since_epoch", "last_update_time_since_epoch", "name", "state")
"""Fields of an artifact in ML Metadata that differ between artifacts of the same content."""


def by_content(checksums: Checksums) -> AbstractContextManager[None]:
    """Keys TFX's cache by the content, type and properties of inputs within the block."""

    def artifact_in_key(artifact: Any) -> Any:
        proto = mlmd.Artifact()
        proto.CopyFrom(artifact.mlmd_artifact)
        for field in _RECORD_FIELDS:
            proto.ClearField(field)
        proto.custom_properties.pop("name", None)
        proto.uri = checksums.digest(artifact.uri)
        return SimpleNamespace(mlmd_artifact=proto)

    def inputs_in_key(inputs: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
        in_key = {
            key: list(map(artifact_in_key, each))
            for key, each in inputs.items()
            if key != BASELINE_MODEL_KEY
        }
        for in_service in inputs.get(BASELINE_MODEL_KEY, ()):
            (model,) = inputs[MODEL_KEY]
            digest = versions.digest(in_service.uri)
            # `pipeline.evaluation.Executor` does not measure a model against itself.
            if digest != versions.digest(model.uri):
                # Not from a manifest: others write to the folder of the versions.
                found = versions.computed_digest(in_service.uri)
                proto = mlmd.Artifact(uri=f"{digest} {found}")
                in_key[BASELINE_MODEL_KEY] = [SimpleNamespace(mlmd_artifact=proto)]
        return in_key

    return tfx_patches.cache_keys_from(inputs_in_key)


def remove_damaged(
    connection: Any, pipeline_name: str, checksums: Checksums, ignored_nodes: Collection[str]
) -> None:
    """Removes damaged artifacts of earlier runs from the cache and the disk, and reports them.

    `ignored_nodes` are those whose outputs no later run reads.
    """
    store = MetadataStore(connection)
    remaining_bytes = VERIFIED_BYTES
    damaged = []
    for uri in dict.fromkeys(artifact.uri for artifact in _artifacts(store, pipeline_name)):
        # ROOT/NODE/OUTPUT/EXECUTION
        node = Path(uri).parent.parent.name
        if node in ignored_nodes:
            continue
        remaining_bytes -= checksums.size(uri)
        if damage := checksums.damage(uri, fully=remaining_bytes >= 0):
            console.say(f"damaged: {damage}; {node} runs again")
            damaged.append(uri)
    for uri in damaged:
        artifacts = store.get_artifacts_by_uri(uri)
        for artifact in artifacts:
            # TFX takes no artifact from the cache that is in another state than LIVE.
            artifact.state = mlmd.Artifact.DELETED
        store.put_artifacts(artifacts)
        checksums.forget(uri)
        shutil.rmtree(uri, ignore_errors=True)


def write_manifests(connection: Any, pipeline_name: str, checksums: Checksums) -> None:
    """Writes a manifest of each artifact that has none yet.

    Raises:
        OSError: if one cannot be read or written.
    """
    for artifact in _artifacts(MetadataStore(connection), pipeline_name):
        if Path(artifact.uri).exists():
            checksums.digest(artifact.uri)


def predicted_hits(
    connection: Any, pipeline_name: str, checksums: Checksums, nodes: Iterable[Any], running: str
) -> set[str]:
    """Predicts which stages of other ladders TFX will take from its cache later in this run.

    TFX looks into its cache only when it comes to a node. This function looks for the executions
    that it will find there: of the same parameters and inputs, with outputs that still exist.

    Args:
        nodes: the Trainers of the compiled pipeline, in the order in which they run.
        running: name of the Trainer that runs now, on the same images as all others.

    Returns:
        Names of Trainers. Later ones of the same ladder are never among them, although they are
        cached if a model that was lost is trained again and is bit for bit the same.
    """
    store = MetadataStore(connection)

    def content(execution: mlmd.Execution, kind: int) -> dict[str, str]:
        artifacts = _artifacts_of(store, execution, kind)
        live = all(artifact.state == mlmd.Artifact.LIVE for artifact in artifacts.values())
        if not live or not all(Path(artifact.uri).exists() for artifact in artifacts.values()):
            return {}
        return {key: checksums.digest(artifact.uri) for key, artifact in artifacts.items()}

    models: dict[str, str] = {}
    shared = content(_executions(store, pipeline_name, running)[0], mlmd.Event.INPUT)
    shared.pop(BASE_MODEL_KEY, None)
    for node in (each.pipeline_node for each in nodes):
        expected_inputs = dict(shared)
        # Reading a key that a protobuf map does not have would add it to the node.
        if BASE_MODEL_KEY in node.inputs.inputs:
            (channel,) = node.inputs.inputs[BASE_MODEL_KEY].channels
            expected_inputs[BASE_MODEL_KEY] = models.get(channel.producer_node_query.id, "")
        for execution in _executions(store, pipeline_name, node.node_info.id):
            if not _succeeded_as(execution, node):
                continue
            inputs = content(execution, mlmd.Event.INPUT)
            outputs = content(execution, mlmd.Event.OUTPUT)
            if inputs and inputs.items() <= expected_inputs.items() and MODEL_KEY in outputs:
                models[node.node_info.id] = outputs[MODEL_KEY]
                break
    return set(models)


def _succeeded_as(execution: mlmd.Execution, node: Any) -> bool:
    """Whether an execution succeeded with the parameters that its node has in this run."""
    properties, parameters = execution.custom_properties, node.parameters.parameters
    return execution.last_known_state in _SUCCESSFUL and all(
        properties[name] == value.field_value for name, value in parameters.items()
    )


def _executions(store: MetadataStore, pipeline_name: str, node: str) -> list[mlmd.Execution]:
    """The executions of a node in a pipeline, the newest first."""
    context = store.get_context_by_type_and_name("node", f"{pipeline_name}.{node}")
    executions = store.get_executions_by_context(context.id) if context is not None else []
    return sorted(executions, key=lambda execution: -execution.id)


def _artifacts_of(
    store: MetadataStore, execution: mlmd.Execution, kind: int
) -> dict[str, mlmd.Artifact]:
    """The input or output artifacts of an execution, by key."""
    events = store.get_events_by_execution_ids([execution.id])
    ids = {event.path.steps[0].key: event.artifact_id for event in events if event.type == kind}
    artifacts = {artifact.id: artifact for artifact in store.get_artifacts_by_id(ids.values())}
    return {key: artifacts[number] for key, number in ids.items()}


def _artifacts(store: MetadataStore, pipeline_name: str) -> list[mlmd.Artifact]:
    """The artifacts of a pipeline that are not deleted, the newest first."""
    context = store.get_context_by_type_and_name("pipeline", pipeline_name)
    artifacts = store.get_artifacts_by_context(context.id) if context is not None else []
    # The model in service is not an output of this pipeline.
    live = (
        artifact
        for artifact in artifacts
        if artifact.state == mlmd.Artifact.LIVE
        and Path(artifact.uri).match(f"{pipeline_name}/*/*/*")
    )
    return sorted(live, key=lambda artifact: -artifact.id)
