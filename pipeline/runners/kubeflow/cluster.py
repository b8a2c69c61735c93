"""The Kubernetes resources that the nodes of a pipeline request, and the flags that give them."""

import argparse
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from keras_ae.errors import ConfigurationError

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([KMGTPE]i?|m?)")
_FACTORS = {"": 1.0, "m": 1e-3} | {
    f"{letter}{i}": float((1024 if i else 1000) ** (power + 1))
    for power, letter in enumerate("KMGTPE")
    for i in ("", "i")
}


class Gpu(NamedTuple):
    """A Kubernetes resource such as `nvidia.com/gpu`, and its count."""

    name: str
    number: int


class Mount(NamedTuple):
    """A persistent volume claim or a secret, and the path where it is mounted."""

    name: str
    path: str


class Toleration(NamedTuple):
    """A taint that is tolerated; an empty value tolerates any value."""

    key: str
    value: str
    effect: str


def gpu(text: str) -> Gpu | None:
    """Reads `none` or `NAME=COUNT`."""
    if text == "none":
        return None
    name, _, count = text.partition("=")
    if not name or not count.isdecimal() or int(count) < 1:
        raise ConfigurationError(
            f"expected none, or NAME=COUNT such as nvidia.com/gpu=1; got {text!r}"
        )
    return Gpu(name, int(count))


def quantity(text: str) -> float:
    """Reads a positive quantity as Kubernetes writes it: 2, 500m, 8G, 16Gi."""
    match = _QUANTITY.fullmatch(text)
    value = float(match[1]) * _FACTORS[match[2]] if match else 0.0
    if not value:
        raise ConfigurationError(
            f"expected a positive quantity such as 2, 500m or 8Gi; got {text!r}"
        )
    return value


def mount(text: str) -> Mount:
    """Reads `NAME:/PATH`."""
    name, _, path = text.partition(":")
    if not name or not path.startswith("/"):
        raise ConfigurationError(f"expected NAME:/PATH such as images:/data; got {text!r}")
    return Mount(name, path.rstrip("/") or "/")


def pair(text: str) -> tuple[str, str]:
    """Reads `KEY=VALUE`."""
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise ConfigurationError(f"expected KEY=VALUE; got {text!r}")
    return key, value


def toleration(text: str) -> Toleration:
    """Reads `KEY:EFFECT` or `KEY=VALUE:EFFECT`."""
    taint, _, effect = text.rpartition(":")
    key, _, value = taint.partition("=")
    if not key or effect not in EFFECTS:
        raise ConfigurationError(
            f"expected KEY:EFFECT or KEY=VALUE:EFFECT with one of {', '.join(EFFECTS)}; "
            f"got {text!r}"
        )
    return Toleration(key, value, effect)


def resources(cpu: str, memory: str, accelerator: Gpu | None = None) -> Any:
    """KFP's ResourceSpec of a node whose requests are its limits.

    Backends read the texts; those before KFP 2.5 read only the numbers, with memory in GB.
    """
    from kfp.pipeline_spec import pipeline_spec_pb2

    spec = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec
    resource_spec = spec(
        resource_cpu_limit=cpu,
        resource_cpu_request=cpu,
        cpu_limit=quantity(cpu),
        cpu_request=quantity(cpu),
        resource_memory_limit=memory,
        resource_memory_request=memory,
        memory_limit=quantity(memory) / 1e9,
        memory_request=quantity(memory) / 1e9,
    )
    if accelerator is not None:
        device = resource_spec.accelerator
        device.type = device.resource_type = accelerator.name
        device.count = accelerator.number
        device.resource_count = str(accelerator.number)
    return resource_spec


def platform_document(
    arguments: argparse.Namespace, executors: Mapping[str, bool]
) -> dict[str, Any]:
    """The second document of KFP's YAML, for Kubernetes; empty if no node needs any of this.

    Volumes and secrets are mounted in every node, the rest applies to those that train.

    Args:
        arguments: of `pipeline.run_kubeflow.parse_arguments`.
        executors: whether the node trains, by the label of its executor.
    """
    configs = {label: _executor_config(arguments, trains) for label, trains in executors.items()}
    if not any(configs.values()):
        return {}
    used = {label: config for label, config in sorted(configs.items()) if config}
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": used}}}}


def _executor_config(arguments: argparse.Namespace, trains: bool) -> dict[str, Any]:
    from google.protobuf import json_format
    from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes

    config = kubernetes.KubernetesExecutorConfig()
    for name, path in map(mount, arguments.volume):
        claim = config.pvc_mount.add(constant=name, mount_path=path)
        claim.pvc_name_parameter.runtime_value.constant.string_value = name
    for name, path in map(mount, arguments.secret):
        # Each key of a secret becomes a file.
        secret = config.secret_as_volume.add(secret_name=name, mount_path=path)
        secret.secret_name_parameter.runtime_value.constant.string_value = name
    if trains and arguments.node_selector:
        config.node_selector.labels.update(map(pair, arguments.node_selector))
    for each in map(toleration, arguments.toleration if trains else ()):
        operator = "Equal" if each.value else "Exists"
        config.tolerations.add(**each._asdict(), operator=operator)
    return dict(json_format.MessageToDict(config))
