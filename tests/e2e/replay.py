"""A compiled pipeline, run as the open-source backend of Kubeflow runs it, task by task.

The backend's driver resolves what goes into a task and names what comes out; its launcher, inside
the task's container, starts the command and reads what it says of its outputs. Here a container is
a process in the repository, and nothing is cached. What the launcher copies between bucket and
container is left out: TFX reads and writes the URIs themselves.
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

TIMEOUT = 1800


class Replay:
    """A run of a compiled pipeline.

    Args:
        text: the pipeline as YAML.
        root: pipeline root.
        parameters: what the run is given; the rest has its defaults.
        place: folder for what containers have of their own, and for the logs of the tasks.
        environment: variables that all containers get.
        start: what starts a process, as `subprocess.Popen` does.
        real: task for which that is `subprocess.Popen` itself.

    Attributes:
        outputs: artifacts by task and output.
        logs: folder with what each task printed.
    """

    def __init__(
        self,
        text: str,
        root: str,
        parameters: Mapping[str, Any],
        place: Path,
        environment: Mapping[str, str] | None = None,
        start: Callable[..., Any] = subprocess.Popen,
        real: str = "",
    ):
        self._spec, self._deployment = backend.load(text)
        self._root, self._run = root.rstrip("/"), str(uuid.uuid4())
        self._place, self._environment = place, dict(environment or {})
        self._start, self._real = start, real
        self._ids = itertools.count(1)
        self._parameters = _given(self._spec, parameters)
        self.outputs: dict[str, dict[str, spec_pb2.RuntimeArtifact]] = {}
        self.logs = place / "logs"
        self.logs.mkdir(parents=True)

    def run(self) -> None:
        """Runs all tasks, each behind those that it waits for."""
        for name in backend.order(self._spec):
            task = self._spec.root.dag.tasks[name]
            component = self._spec.components[task.component_ref.name]
            executor = self._deployment.executors[component.executor_label]
            if executor.HasField("importer"):
                self.outputs[name] = self._imported(component, executor.importer)
            else:
                self.outputs[name] = self._ran(name, task, component, executor.container)

    def _imported(self, component: Any, importer: Any) -> dict[str, Any]:
        (key,) = component.output_definitions.artifacts
        artifact = spec_pb2.RuntimeArtifact(
            uri=importer.artifact_uri.constant.string_value, type=importer.type_schema
        )
        artifact.metadata.update(importer.metadata)
        return {key: self._recorded(key, artifact)}

    def _ran(self, name: str, task: Any, component: Any, container: Any) -> dict[str, Any]:
        told = self._executor_input(name, task, component)
        text = json_format.MessageToJson(told)
        words = [word.replace("{{$}}", text) for word in (*container.command, *container.args)]
        (self._place / name).mkdir()
        start = subprocess.Popen if name == self._real else self._start
        with (self.logs / f"{name}.log").open("w") as log:
            process = start(
                words,
                cwd=self._place / name,
                env=self._variables(container),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                status = process.wait(TIMEOUT)
            finally:
                process.kill()
                process.wait()
        if status:
            tail = (self.logs / f"{name}.log").read_text()[-3000:]
            raise RuntimeError(f"task {name} ended with {status}:\n{tail}")
        return self._collected(told)

    def _executor_input(self, name: str, task: Any, component: Any) -> Any:
        told = spec_pb2.ExecutorInput()
        for key, source in task.inputs.parameters.items():
            value = told.inputs.parameter_values[key]
            if source.HasField("component_input_parameter"):
                json_format.ParseDict(self._parameters[source.component_input_parameter], value)
            else:
                value.CopyFrom(source.runtime_value.constant)
        for key, source in task.inputs.artifacts.items():
            made = self.outputs[source.task_output_artifact.producer_task]
            artifact = made[source.task_output_artifact.output_artifact_key]
            told.inputs.artifacts[key].artifacts.add().CopyFrom(artifact)
        salt = str(uuid.uuid4())
        for key, artifact in component.output_definitions.artifacts.items():
            told.outputs.artifacts[key].artifacts.add(
                uri=f"{self._root}/{self._spec.pipeline_info.name}/{self._run}/{name}/{salt}/{key}",
                type=artifact.artifact_type,
                metadata=artifact.metadata,
            )
        # In a container it is below /tmp, which each has for itself.
        told.outputs.output_file = str(self._place / name / "kfp_outputs" / "output_metadata.json")
        return told

    def _variables(self, container: Any) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG")}
        return {
            **kept,
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": f"{START}:{ROOT}",
            "KERAS_BACKEND": "tensorflow",
            **self._environment,
            **{variable.name: variable.value for variable in container.env},
        }

    def _collected(self, told: Any) -> dict[str, Any]:
        """The outputs, with what the executor says of them."""
        said = spec_pb2.ExecutorOutput()
        json_format.Parse(Path(told.outputs.output_file).read_text(), said)
        found = {}
        for key, entry in told.outputs.artifacts.items():
            artifact = entry.artifacts[0]
            for other in said.artifacts[key].artifacts if key in said.artifacts else ():
                artifact.uri = other.uri or artifact.uri
                artifact.metadata.update(json_format.MessageToDict(other.metadata))
            found[key] = self._recorded(key, artifact)
        return found

    def _recorded(self, key: str, artifact: Any) -> Any:
        """An artifact as it comes back from ML Metadata: without its type, its properties flat."""
        metadata = {
            name: _stored(value)
            for name, value in json_format.MessageToDict(artifact.metadata).items()
        }
        recorded = spec_pb2.RuntimeArtifact(name=str(next(self._ids)), uri=artifact.uri)
        recorded.metadata.update({"display_name": key, "store_session_info": "{}", **metadata})
        return recorded


def _given(spec: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run, as the API server checks them."""
    wanted = spec.root.input_definitions.parameters
    unknown = sorted(set(parameters) - set(wanted))
    if unknown:
        raise backend.RefusedError(f"unknown parameters: {', '.join(unknown)}")
    found = dict(parameters)
    for name, parameter in wanted.items():
        if name not in found:
            if not parameter.HasField("default_value"):
                raise backend.RefusedError(f"parameter {name} has no value and no default")
            found[name] = json_format.MessageToDict(parameter.default_value)
        text = parameter.parameter_type == spec_pb2.ParameterType.STRING
        if isinstance(found[name], str) != text:
            raise backend.RefusedError(f"parameter {name} has the wrong type: {found[name]!r}")
    return found


def _stored(value: Any) -> Any:
    """ML Metadata has no booleans and no lists of its own."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, list):
        return {"list": value}
    return {"struct": value} if isinstance(value, dict) else value
