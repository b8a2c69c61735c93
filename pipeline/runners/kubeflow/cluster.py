"""The Kubernetes resources that the nodes of a pipeline request, and the flags that give them."""

import re
from collections.abc import Iterable, Mapping, Sequence
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
    executors: Mapping[str, bool],
    *,
    volumes: Sequence[Mount],
    secrets: Sequence[Mount],
    node_selector: Iterable[tuple[str, str]],
    tolerations: Sequence[Toleration],
) -> dict[str, Any]:
    """The second document of KFP's YAML, for Kubernetes; empty if no node needs any of this.

    Args:
        executors: whether the node trains, by the label of its executor. Volumes and secrets are
            mounted in every node, the rest applies to those that train.
        secrets: secrets, each key of which becomes a file.
        node_selector: labels that a machine must have.
        tolerations: taints that it may have.
    """
    from google.protobuf import json_format
    from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes

    labels, configs = dict(node_selector), {}
    for label, trains in sorted(executors.items()):
        config = kubernetes.KubernetesExecutorConfig()
        for volume in volumes:
            claim = config.pvc_mount.add(constant=volume.name, mount_path=volume.path)
            claim.pvc_name_parameter.runtime_value.constant.string_value = volume.name
        for secret in secrets:
            entry = config.secret_as_volume.add(secret_name=secret.name, mount_path=secret.path)
            entry.secret_name_parameter.runtime_value.constant.string_value = secret.name
        if trains and labels:
            config.node_selector.labels.update(labels)
        for each in tolerations if trains else ():
            operator = "Equal" if each.value else "Exists"
            config.tolerations.add(
                key=each.key, value=each.value, operator=operator, effect=each.effect
            )
        if config.ByteSize():
            configs[label] = json_format.MessageToDict(config)
    if not configs:
        return {}
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": configs}}}}
