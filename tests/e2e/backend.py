"""Checks of a compiled pipeline that the open-source backend of Kubeflow Pipelines makes.

Its API server, its compiler to Argo, Argo itself, its launcher and the entry point in the image
each check a part; `load` checks everything before a task runs.
"""

import graphlib
import re
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2 as spec_pb2
from tfx.orchestration.kubeflow.v2.compiler_utils import TITLE_TO_CLASS_PATH
from tfx.utils import import_utils

_SPEC_KEYS = ("schemaVersion", "pipelineInfo", "root")


class RefusedError(Exception):
    """The reason why the backend refuses a pipeline."""


def load(text: str) -> tuple[spec_pb2.PipelineSpec, spec_pb2.PipelineDeploymentConfig]:
    """Reads and checks a compiled pipeline as the backend does.

    Returns:
        The pipeline and its executors.

    Raises:
        RefusedError: for the first check that fails.
    """
    spec = _parse_spec(text)
    deployment = spec_pb2.PipelineDeploymentConfig()
    try:
        json_format.Parse(
            json_format.MessageToJson(spec.deployment_spec), deployment, ignore_unknown_fields=True
        )
    except json_format.ParseError as error:
        raise RefusedError(f"deploymentSpec: {error}") from error
    _check_header(spec)
    tasks = sorted(spec.root.dag.tasks.items())
    components = {name: _component(spec, name, task) for name, task in tasks}
    for name, task in tasks:
        component = components[name]
        _check_executor(name, component, task, deployment)
        _check_types(name, component)
        _check_inputs(spec, name, component, task)
    sorted_tasks(spec)
    return spec, deployment


def sorted_tasks(spec: spec_pb2.PipelineSpec) -> list[str]:
    """Names of the tasks in topological order."""
    tasks = spec.root.dag.tasks
    graph = {name: sorted(task.dependent_tasks) for name, task in sorted(tasks.items())}
    for name, dependencies in graph.items():
        for dependency in dependencies:
            _refuse_if(
                dependency not in tasks, f"task {name} waits for {dependency!r}, which is unknown"
            )
    try:
        return list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        raise RefusedError(f"tasks wait for each other: {error.args[1]}") from error


def check_root(root: str) -> None:
    """Raises RefusedError unless the launcher supports the storage of a pipeline root."""
    supported = root.startswith(("gs://", "s3://", "minio://"))
    _refuse_if(not supported, f"pipeline root {root!r}: unsupported storage scheme")


def title(schema: spec_pb2.ArtifactTypeSchema) -> str:
    """The name of an artifact's type; "" if it has none."""
    kind = schema.WhichOneof("kind")
    if kind == "schema_title":
        return schema.schema_title
    instance = yaml.safe_load(schema.instance_schema) if kind == "instance_schema" else None
    return (instance or {}).get("title", "")


def _parse_spec(text: str) -> spec_pb2.PipelineSpec:
    documents = [document for document in yaml.safe_load_all(text) if document is not None]
    specs = [document for document in documents if all(key in document for key in _SPEC_KEYS)]
    _refuse_if(len(specs) != 1, f"expected one pipeline spec; got {len(specs)}")
    platforms = [document for document in documents if document not in specs]
    _refuse_if(len(platforms) > 1, "multiple platform specs provided")
    try:
        for platform in platforms:
            json_format.ParseDict(platform, spec_pb2.PlatformSpec())
        return json_format.ParseDict(specs[0], spec_pb2.PipelineSpec())
    except json_format.ParseError as error:
        raise RefusedError(f"invalid spec: {error}") from error


def _check_header(spec: spec_pb2.PipelineSpec) -> None:
    _refuse_if(
        spec.schema_version != "2.1.0",
        f"only schema version 2.1.0 is supported; got {spec.schema_version}",
    )
    name = spec.pipeline_info.name
    _refuse_if(not re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", name), f"bad name {name!r}")
    _refuse_if("root" in spec.components, "component name 'root' is reserved")
    _refuse_if(not spec.root.dag.tasks, "no tasks")
    for key, parameter in spec.root.input_definitions.parameters.items():
        _refuse_if(not parameter.parameter_type, f"parameter {key} has unspecified type")


def _component(spec: Any, name: str, task: Any) -> spec_pb2.ComponentSpec:
    # The rule is Argo's: KFP derives Argo's names of tasks from these.
    _refuse_if(
        not re.fullmatch("[a-zA-Z0-9][-a-zA-Z0-9]{0,120}", name),
        f"task name {name!r} must consist of alpha-numeric characters or '-'",
    )
    _refuse_if(
        task.task_info.name != name, f"task {name} has another name, {task.task_info.name!r}"
    )
    _refuse_if(task.HasField("artifact_iterator"), f"task {name}: artifact iterator")
    reference = task.component_ref.name
    _refuse_if(reference not in spec.components, f"task {name}: unknown component {reference!r}")
    return spec.components[reference]


def _check_executor(name: str, component: Any, task: Any, deployment: Any) -> None:
    label = component.executor_label
    _refuse_if(label not in deployment.executors, f"task {name}: unknown executor {label!r}")
    executor = deployment.executors[label]
    kind = executor.WhichOneof("spec")
    _refuse_if(kind not in ("container", "importer"), f"task {name}: {kind} executor")
    if kind == "importer":
        _refuse_if(not title(executor.importer.type_schema), f"task {name}: importer without type")
        source = executor.importer.artifact_uri.WhichOneof("value")
        _refuse_if(source is None, f"task {name}: importer without URI")
        _refuse_if(bool(task.trigger_policy.condition), f"task {name}: condition on an importer")
        return
    container = executor.container
    _refuse_if(not container.image, f"task {name}: no image")
    _refuse_if(not container.command, f"task {name}: no command")
    _refuse_if(container.HasField("lifecycle"), f"task {name}: a lifecycle hook is never run")
    accelerator = container.resources.accelerator
    has_type = bool(accelerator.type or accelerator.resource_type)
    has_count = bool(accelerator.count or accelerator.resource_count)
    _refuse_if(has_type != has_count, f"task {name}: accelerator without type or count is dropped")


def _check_types(name: str, component: Any) -> None:
    artifacts = {
        **component.input_definitions.artifacts,
        **component.output_definitions.artifacts,
    }
    for key, artifact in artifacts.items():
        kind = title(artifact.artifact_type)
        _refuse_if(not kind, f"task {name}: artifact {key} has no type")
        path = TITLE_TO_CLASS_PATH.get(kind, kind)
        try:
            import_utils.import_class_by_path(path)
        except (AttributeError, ImportError, ValueError) as error:
            raise RefusedError(f"task {name}: artifact {key}: unknown type {kind!r}") from error


def _check_inputs(spec: Any, name: str, component: Any, task: Any) -> None:
    tasks, parameters = spec.root.dag.tasks, spec.root.input_definitions.parameters
    for key, parameter in component.input_definitions.parameters.items():
        source = (
            task.inputs.parameters[key].WhichOneof("kind") if key in task.inputs.parameters else ""
        )
        default = parameter.HasField("default_value") or parameter.is_optional
        _refuse_if(not source and not default, f"task {name}: parameter {key} has no source")
        run_parameter = task.inputs.parameters[key].component_input_parameter if source else ""
        _refuse_if(
            source == "component_input_parameter" and run_parameter not in parameters,
            f"task {name}: parameter {key} is given by {run_parameter!r}, which is unknown",
        )
    for key, artifact in task.inputs.artifacts.items():
        producer = artifact.task_output_artifact.producer_task
        output = artifact.task_output_artifact.output_artifact_key
        _refuse_if(
            producer not in tasks,
            f"task {name}: input {key} is an output of {producer!r}, which is unknown",
        )
        outputs = spec.components[tasks[producer].component_ref.name].output_definitions.artifacts
        _refuse_if(output not in outputs, f"task {name}: {producer} has no output {output!r}")
        _refuse_if(
            producer not in task.dependent_tasks, f"task {name} does not wait for {producer}"
        )


def _refuse_if(condition: bool, reason: str) -> None:
    if condition:
        raise RefusedError(reason)
