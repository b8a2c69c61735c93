"""Compiles the pipeline for Kubeflow Pipelines, with runtime parameters where that is possible."""

import argparse
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_ae import durable
from keras_ae.errors import StorageError
from pipeline.runners.beam import engines
from pipeline.runners.kubeflow import cluster
from pipeline.runtime import console


def run(arguments: argparse.Namespace) -> None:
    """Compiles the pipeline by arguments of `run_kubeflow.parse_arguments`, and writes it, starts a
    run of it, or both.

    Raises:
        KerasAEError: with one line that says what is wrong; also if a run that is waited for did
            not succeed.
    """
    # TensorFlow and TFX log much that is no use to the reader of this command's output.
    with console.logs_to(Path(os.devnull)):
        if arguments.submit:
            # It imports TensorFlow's and Google's clients for buckets.
            from pipeline.runners.kubeflow import submission

            submission.check(arguments)
            arguments.incumbent_uri = submission.in_service(arguments)
        text = compiled(arguments)
    parameters = runtime_parameters(arguments)
    if arguments.output:
        try:
            durable.write(arguments.output, text.encode())
        except OSError as error:
            raise StorageError(f"cannot write {arguments.output}: {error.strerror}") from error
        console.say(f"compiled: {arguments.output}")
        console.say(f"parameters of a run: {', '.join(parameters)}")
    for name, flag in fixed(arguments).items():
        console.say(f"note: {name} is fixed in the pipeline, because {flag} depends on it")
    if arguments.submit:
        submission.submit(arguments, text, parameters)


def runtime_parameters(arguments: argparse.Namespace) -> list[str]:
    """The names of the parameters that each run can set; the flags give their defaults."""
    names = ("data", "data_fingerprint", "preset", "seed")
    return [name for name in names if name not in fixed(arguments)]


def fixed(arguments: argparse.Namespace) -> dict[str, str]:
    """Which of preset and seed cannot be runtime parameters, and the flag that is the reason.

    These flags add nodes to the pipeline that are built from the preset or the seed.
    """
    reasons: dict[str, str] = {}
    if arguments.seeds > 1:
        reasons["seed"] = "--seeds"
    if arguments.with_baseline:
        reasons["preset"] = "--with-baseline"
    if arguments.tune:
        reasons |= {"preset": "--tune", "seed": "--tune"}
    return reasons


def compiled(arguments: argparse.Namespace) -> str:
    """The pipeline as KFP's YAML of schema 2.1.0; the same text for the same flags and code.

    It has a second document if flags need settings of Kubernetes that KFP's own schema lacks.
    """
    import yaml
    from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as runner

    from pipeline.definition import UNCACHED
    from pipeline.runners.kubeflow.entrypoint import COMMAND

    config = runner.KubeflowV2DagRunnerConfig(
        default_image=arguments.image, default_commands=[*COMMAND], use_pipeline_spec_2_1=True
    )
    job = runner.KubeflowV2DagRunner(config).run(_pipeline(arguments), write_out=False)
    spec = _renamed(job["pipelineSpec"])
    defaults = {"data": arguments.data, "preset": arguments.preset, "seed": arguments.seed}
    if arguments.data_fingerprint:
        defaults["data_fingerprint"] = arguments.data_fingerprint
    for name, parameter in spec["root"]["inputDefinitions"]["parameters"].items():
        # A run must set what has no default: without a fingerprint, it gets no cache of other data.
        if name in defaults:
            parameter["defaultValue"] = defaults[name]
    for name in UNCACHED:
        spec["root"]["dag"]["tasks"][name].pop("cachingOptions", None)
    executors = spec["deploymentSpec"]["executors"]
    nodes = {label: _trains(label) for label, each in executors.items() if "container" in each}
    documents = [spec, cluster.platform_document(arguments, nodes)]
    _set_environment(spec, dict(map(cluster.pair, arguments.env)))
    return str(yaml.safe_dump_all(filter(None, documents), sort_keys=True, width=100))


def _pipeline(arguments: argparse.Namespace) -> Any:
    from tfx.dsl.components.base.base_component import BaseComponent
    from tfx.orchestration.data_types import RuntimeParameter

    from pipeline.definition import create_pipeline

    parameters: dict[str, Any] = {
        name: RuntimeParameter(name=name, ptype=int if name == "seed" else str)
        for name in runtime_parameters(arguments)
    }
    beam_arguments = engines.beam_arguments(
        arguments.beam_runner, arguments.workers, arguments.beam_options, here=False
    )
    pipeline = create_pipeline(
        data_fingerprint=parameters.pop("data_fingerprint"),
        config=dataclasses.replace(arguments.config, **parameters),
        pipeline_name=arguments.name,
        pipeline_root=arguments.pipeline_root,
        push_destination=arguments.push_dir,
        checkpoints=arguments.checkpoints,
        in_service=arguments.incumbent_uri,
        check_command=arguments.check_command,
        command=arguments.command,
        leave_out=arguments.own_folders,
        beam_pipeline_args=beam_arguments,
    )
    common = cluster.resources(arguments.cpu, arguments.memory)
    gpu = cluster.gpu(arguments.gpu)
    training = cluster.resources(arguments.trainer_cpu, arguments.trainer_memory, gpu)
    for component in pipeline.components:
        if isinstance(component, BaseComponent):
            component.with_platform_config(training if _trains(component.id) else common)
    return pipeline


def _trains(node: str) -> bool:
    return node.startswith(("Trainer", "Tuner"))


def _renamed(spec: dict[str, Any]) -> dict[str, Any]:
    """Replaces underscores in the names of nodes, which become names in Argo, which has none."""
    dag = spec["root"]["dag"]
    for name, task in dag["tasks"].items():
        task["taskInfo"]["name"] = task["componentRef"]["name"] = _argo(name)
        if "dependentTasks" in task:
            task["dependentTasks"] = sorted(map(_argo, task["dependentTasks"]))
        for artifact in task.get("inputs", {}).get("artifacts", {}).values():
            producer = artifact["taskOutputArtifact"]
            producer["producerTask"] = _argo(producer["producerTask"])
    dag["tasks"] = {_argo(name): task for name, task in dag["tasks"].items()}
    spec["components"] = {_argo(name): each for name, each in spec["components"].items()}
    return spec


def _argo(name: str) -> str:
    return name.replace("_", "-")


def _set_environment(spec: Mapping[str, Any], variables: Mapping[str, str]) -> None:
    entries = [{"name": name, "value": value} for name, value in sorted(variables.items())]
    for executor in spec["deploymentSpec"]["executors"].values():
        if entries and "container" in executor:
            executor["container"]["env"] = [dict(entry) for entry in entries]
