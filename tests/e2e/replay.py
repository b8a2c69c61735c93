"""A compiled pipeline, run as the open-source backend of Kubeflow runs it, task by task.

The backend's driver resolves the inputs of a task and the URIs of its outputs; its launcher, inside
the task's container, starts the command and reads the metadata of the outputs. Here a container is
a process in the repository, and nothing is cached. The launcher's copies between bucket and
container are left out, since TFX reads and writes the URIs itself.
"""

import itertools
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2 as spec_pb2

from tests.e2e import backend
from tests.e2e.runs import ROOT, START

TIMEOUT_SECONDS = 1800


class Replay:
    """A run of a compiled pipeline.

    Args:
        text: the pipeline as YAML.
        root: pipeline root.
        parameters: parameters of the run; others have their defaults.
        folder: folder for the containers' working directories and the tasks' logs.
        environment: environment variables of all containers.
        start: function that starts a process, with the arguments of `subprocess.Popen`.
        unforked: task whose process is started by `subprocess.Popen` instead.

    Attributes:
        outputs: artifacts by task and output.
        logs: folder with the output of each task.
    """

    def __init__(
        self,
        text: str,
        root: str,
        parameters: Mapping[str, Any],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        start: Callable[..., Any] = subprocess.Popen,
        unforked: str = "",
    ):
        self._spec, self._deployment = backend.load(text)
        self._root, self._run_id = root.rstrip("/"), str(uuid.uuid4())
        self._folder, self._environment = folder, dict(environment or {})
        self._start, self._unforked = start, unforked
        self._artifact_ids = itertools.count(1)
        self._parameters = _resolve_parameters(self._spec, parameters)
        self.outputs: dict[str, dict[str, spec_pb2.RuntimeArtifact]] = {}
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True)

    def run(self) -> None:
        """Runs all tasks in topological order."""
        for name in backend.sorted_tasks(self._spec):
            task = self._spec.root.dag.tasks[name]
            component = self._spec.components[task.component_ref.name]
            executor = self._deployment.executors[component.executor_label]
            if executor.HasField("importer"):
                self.outputs[name] = self._run_importer(component, executor.importer)
            else:
                self.outputs[name] = self._run_container(name, task, component, executor.container)

    def _run_importer(self, component: Any, importer: Any) -> dict[str, Any]:
        (key,) = component.output_definitions.artifacts
        artifact = spec_pb2.RuntimeArtifact(
            uri=importer.artifact_uri.constant.string_value, type=importer.type_schema
        )
        artifact.metadata.update(importer.metadata)
        return {key: self._record(key, artifact)}

    def _run_container(
        self, name: str, task: Any, component: Any, container: Any
    ) -> dict[str, Any]:
        executor_input = self._executor_input(name, task, component)
        text = json_format.MessageToJson(executor_input)
        command = [word.replace("{{$}}", text) for word in (*container.command, *container.args)]
        (self._folder / name).mkdir()
        start = subprocess.Popen if name == self._unforked else self._start
        with (self.logs / f"{name}.log").open("w") as log:
            process = start(
                command,
                cwd=self._folder / name,
                env=self._container_environment(container),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                status = process.wait(TIMEOUT_SECONDS)
            finally:
                process.kill()
                process.wait()
        if status:
            tail = (self.logs / f"{name}.log").read_text()[-3000:]
            raise RuntimeError(f"task {name} ended with {status}:\n{tail}")
        return self._collect_outputs(executor_input)

    def _executor_input(self, name: str, task: Any, component: Any) -> Any:
        executor_input = spec_pb2.ExecutorInput()
        for key, source in task.inputs.parameters.items():
            value = executor_input.inputs.parameter_values[key]
            if source.HasField("component_input_parameter"):
                json_format.ParseDict(self._parameters[source.component_input_parameter], value)
            else:
                value.CopyFrom(source.runtime_value.constant)
        for key, source in task.inputs.artifacts.items():
            outputs = self.outputs[source.task_output_artifact.producer_task]
            artifact = outputs[source.task_output_artifact.output_artifact_key]
            executor_input.inputs.artifacts[key].artifacts.add().CopyFrom(artifact)
        task_root = f"{self._root}/{self._spec.pipeline_info.name}/{self._run_id}/{name}"
        salt = str(uuid.uuid4())
        for key, artifact in component.output_definitions.artifacts.items():
            executor_input.outputs.artifacts[key].artifacts.add(
                uri=f"{task_root}/{salt}/{key}",
                type=artifact.artifact_type,
                metadata=artifact.metadata,
            )
        # In a container this file is below /tmp, which the processes here would share.
        output_file = self._folder / name / "kfp_outputs" / "output_metadata.json"
        executor_input.outputs.output_file = str(output_file)
        return executor_input

    def _container_environment(self, container: Any) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG")}
        return {
            **inherited,
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": f"{START}:{ROOT}",
            "KERAS_BACKEND": "tensorflow",
            **self._environment,
            **{variable.name: variable.value for variable in container.env},
        }

    def _collect_outputs(self, executor_input: Any) -> dict[str, Any]:
        """The output artifacts, with the metadata that the executor wrote."""
        executor_output = spec_pb2.ExecutorOutput()
        json_format.Parse(Path(executor_input.outputs.output_file).read_text(), executor_output)
        collected = {}
        for key, entry in executor_input.outputs.artifacts.items():
            artifact = entry.artifacts[0]
            written = executor_output.artifacts
            for changed in written[key].artifacts if key in written else ():
                artifact.uri = changed.uri or artifact.uri
                artifact.metadata.update(json_format.MessageToDict(changed.metadata))
            collected[key] = self._record(key, artifact)
        return collected

    def _record(self, key: str, artifact: Any) -> Any:
        """An artifact as ML Metadata returns it: without its type, with stored properties."""
        metadata = {
            name: _stored(value)
            for name, value in json_format.MessageToDict(artifact.metadata).items()
        }
        recorded = spec_pb2.RuntimeArtifact(name=str(next(self._artifact_ids)), uri=artifact.uri)
        recorded.metadata.update({"display_name": key, "store_session_info": "{}", **metadata})
        return recorded


def _resolve_parameters(spec: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run with defaults, after the checks of the API server."""
    definitions = spec.root.input_definitions.parameters
    unknown = sorted(set(parameters) - set(definitions))
    if unknown:
        raise backend.RefusedError(f"unknown parameters: {', '.join(unknown)}")
    values = dict(parameters)
    for name, parameter in definitions.items():
        if name not in values:
            if not parameter.HasField("default_value"):
                raise backend.RefusedError(f"parameter {name} has no value and no default")
            values[name] = json_format.MessageToDict(parameter.default_value)
        is_text = parameter.parameter_type == spec_pb2.ParameterType.STRING
        if isinstance(values[name], str) != is_text:
            raise backend.RefusedError(f"parameter {name} has the wrong type: {values[name]!r}")
    return values


def _stored(value: Any) -> Any:
    """A value as ML Metadata stores it, which has no booleans and no lists."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, list):
        return {"list": value}
    return {"struct": value} if isinstance(value, dict) else value
