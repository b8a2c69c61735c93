"""TFX's cache of what steps made, by what they read instead of where it lies.

TFX takes an input for another one when it was made anew, whatever is in it. Here a step whose
inputs hold what they held is not run again, so that what had to be made anew costs no training.
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
from pipeline.runtime import console

READ_BYTES = 4 * 2**30
"""Of the newest artifacts, that are read again before each run, which takes seconds."""

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
        in_key = {key: list(map(artifact_in_key, each)) for key, each in inputs.items()}
        models, in_service = (
            [each.mlmd_artifact.uri for each in in_key.get(key, ())]
            for key in (MODEL_KEY, BASELINE_MODEL_KEY)
        )
        # `pipeline.evaluation.Executor` does not measure a model against itself.
        if models == in_service:
            in_key.pop(BASELINE_MODEL_KEY, None)
        return in_key

    return tfx_patches.cache_keys_from(inputs_in_key)


def set_aside(connection: Any, lineage: str, checksums: Checksums, but: Collection[str]) -> None:
    """Removes what earlier runs made and is damaged from cache and disk, and says so.

    Args:
        connection: of ML Metadata.
        lineage: name of the pipeline.
        checksums: of the artifacts.
        but: nodes whose outputs no later run reads.
    """
    store = MetadataStore(connection)
    left = READ_BYTES
    damaged = {}
    for place in dict.fromkeys(artifact.uri for artifact in _artifacts(store, lineage)):
        node = _node(place)
        if node in but:
            continue
        left -= checksums.size(place)
        if damage := checksums.damage(place, fully=left >= 0):
            console.say(f"damaged: {damage}; {node} runs again")
            damaged[place] = node
    for place in damaged:
        found = store.get_artifacts_by_uri(place)
        for artifact in found:
            artifact.state = mlmd.Artifact.DELETED
        store.put_artifacts(found)
        checksums.forget(place)
        shutil.rmtree(place, ignore_errors=True)


def record(connection: Any, lineage: str, checksums: Checksums) -> None:
    """Writes a manifest of each artifact that has none yet.

    Raises:
        OSError: if one cannot be read or written.
    """
    for artifact in _artifacts(MetadataStore(connection), lineage):
        if Path(artifact.uri).exists():
            checksums.digest(artifact.uri)


def predicted_hits(
    connection: Any, lineage: str, checksums: Checksums, nodes: Iterable[Any], running: str
) -> set[str]:
    """Predicts which stages of other ladders TFX will take from its cache later in this run.

    TFX looks into its cache only when it comes to a node. This looks for the executions that it
    will find there: of the same parameters and inputs, with outputs that still exist.

    Args:
        connection: of ML Metadata.
        lineage: name of the pipeline.
        checksums: of the artifacts.
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
    newest = _executions(store, lineage, running)[0]
    shared = content(newest, mlmd.Event.INPUT)
    shared.pop(BASE_MODEL_KEY, None)
    for node in (each.pipeline_node for each in nodes):
        read = dict(shared)
        # To ask a map of messages for a key that is not there would add it to the node.
        if BASE_MODEL_KEY in node.inputs.inputs:
            (channel,) = node.inputs.inputs[BASE_MODEL_KEY].channels
            read[BASE_MODEL_KEY] = models.get(channel.producer_node_query.id, "")
        for execution in _executions(store, lineage, node.node_info.id):
            if not _is_of(execution, node):
                continue
            found = content(execution, mlmd.Event.INPUT)
            left = content(execution, mlmd.Event.OUTPUT)
            if found and found.items() <= read.items() and MODEL_KEY in left:
                models[node.node_info.id] = left[MODEL_KEY]
                break
    return set(models)


def _is_of(execution: mlmd.Execution, node: Any) -> bool:
    """Whether an execution succeeded with the parameters that its node has in this run."""
    had, has = execution.custom_properties, node.parameters.parameters
    same = all(had[name] == value.field_value for name, value in has.items())
    return same and execution.last_known_state in _SUCCESSFUL


def _executions(store: MetadataStore, lineage: str, node: str) -> list[mlmd.Execution]:
    """Those of a node in a pipeline, the newest first."""
    context = store.get_context_by_type_and_name("node", f"{lineage}.{node}")
    found = store.get_executions_by_context(context.id) if context is not None else []
    return sorted(found, key=lambda execution: -execution.id)


def _artifacts_of(
    store: MetadataStore, execution: mlmd.Execution, kind: int
) -> dict[str, mlmd.Artifact]:
    """The input or output artifacts of an execution, by key."""
    events = store.get_events_by_execution_ids([execution.id])
    ids = {event.path.steps[0].key: event.artifact_id for event in events if event.type == kind}
    artifacts = {artifact.id: artifact for artifact in store.get_artifacts_by_id(ids.values())}
    return {key: artifacts[number] for key, number in ids.items()}


def _artifacts(store: MetadataStore, lineage: str) -> list[mlmd.Artifact]:
    """Those of a pipeline that are not deleted, the newest first."""
    context = store.get_context_by_type_and_name("pipeline", lineage)
    found = store.get_artifacts_by_context(context.id) if context is not None else []
    live = (artifact for artifact in found if artifact.state == mlmd.Artifact.LIVE)
    return sorted(live, key=lambda artifact: -artifact.id)


def _node(place: str) -> str:
    """The node of an artifact in ROOT/NODE/OUTPUT/EXECUTION."""
    return Path(place).parent.parent.name
