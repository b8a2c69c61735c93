"""The manifests, as far as they can be checked without a cluster."""

import shutil
import subprocess

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.serving.deploy.deployment import (
    CONFIG,
    CONTAINERS,
    DEPLOY,
    KSERVE,
    MANIFESTS,
    PINNED,
    POD,
    compose,
    flags,
    load,
)

VERSIONS = ("1.30", "1.37")
"""Kubernetes versions: the oldest supported one, and the newest one with installed schemas."""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_follow_the_schema(name, version):
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError, match="unknown"):
        kubernetes_validate.validate({**MANIFESTS[name], "unknown": 1}, version, strict=True)


def test_every_kind_of_manifest_exists():
    assert {name.split("/")[0] for name in MANIFESTS} == {
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    }


@pytest.mark.parametrize("folder", ["base", "batching", "gpu"])
def test_files_of_a_kustomization_exist(folder):
    (kustomization,) = load(DEPLOY / "kubernetes" / folder / "kustomization.yaml")
    (config,) = load(CONFIG / "kustomization.yaml")
    for at, document in ((DEPLOY / "kubernetes" / folder, kustomization), (CONFIG, config)):
        names = document.get("resources", [])
        for generator in document.get("configMapGenerator", []):
            names = names + generator["files"]
        names = names + [patch["path"] for patch in document.get("patches", []) if "path" in patch]
        for name in names:
            path = at / name
            assert (path / "kustomization.yaml").is_file() if path.is_dir() else path.is_file(), (
                path
            )


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders kustomizations")
@pytest.mark.parametrize("folder", ["base", "batching", "gpu"])
def test_kubectl_renders_what_follows_the_schema(folder):
    done = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kubernetes" / folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    rendered = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}
    for document in rendered.values():
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)
    pod = rendered["Deployment"]["spec"]["template"]["spec"]
    (serving,) = pod["containers"]
    assert ("enable_batching" in flags(serving["args"])) == (folder == "batching")
    assert ("nvidia.com/gpu" in serving["resources"]["limits"]) == (folder == "gpu")
    assert serving["image"].endswith("-gpu") == (folder == "gpu")
    assert ("HorizontalPodAutoscaler" in rendered) == (folder != "gpu")
    maps = {
        document["metadata"]["name"]: document["data"]
        for document in yaml.safe_load_all(done.stdout)
        if document["kind"] == "ConfigMap"
    }
    for volume in pod["volumes"]:
        assert "configMap" not in volume or volume["configMap"]["name"] in maps
    assert maps["keras-ae-config"]["models.config"] == (CONFIG / "models.config").read_text()


def test_selectors_match_the_labels_of_pods():
    deployment = MANIFESTS["Deployment/keras-ae-serving"]
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        MANIFESTS["PodDisruptionBudget/keras-ae-serving"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["NetworkPolicy/keras-ae-serving"]["spec"]["podSelector"]["matchLabels"],
        *(m["spec"]["selector"] for m in MANIFESTS.values() if m["kind"] == "Service"),
        *(c["labelSelector"]["matchLabels"] for c in POD["topologySpreadConstraints"]),
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels
    autoscaler = MANIFESTS["HorizontalPodAutoscaler/keras-ae-serving"]["spec"]
    assert autoscaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert autoscaler["metrics"][0]["containerResource"]["container"] in CONTAINERS
    assert f"ServiceAccount/{POD['serviceAccountName']}" in MANIFESTS


def test_ports_volumes_and_probes_name_what_the_pod_has():
    ports = {port["name"]: port["containerPort"] for port in CONTAINERS["serving"]["ports"]}
    arguments = flags(CONTAINERS["serving"]["args"])
    assert ports == {"grpc": int(arguments["port"]), "http": int(arguments["rest_api_port"])}
    for service in (m for m in MANIFESTS.values() if m["kind"] == "Service"):
        for port in service["spec"]["ports"]:
            assert port["port"] == ports[port["targetPort"]]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        action = CONTAINERS["serving"][probe]
        assert next(iter({"httpGet", "tcpSocket"} & set(action)), None), probe
        assert (action.get("httpGet") or action["tcpSocket"])["port"] in ports
    volumes = {volume["name"] for volume in POD["volumes"]}
    for container in CONTAINERS.values():
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_is_confined(name):
    container = CONTAINERS[name]
    assert PINNED.match(container["image"])
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["runAsUser"] > 0
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


def test_the_server_cannot_change_its_models():
    mounts = {mount["name"]: mount for mount in CONTAINERS["serving"]["volumeMounts"]}
    assert mounts["models"]["readOnly"] is True
    assert mounts["config"]["readOnly"] is True


def test_kubernetes_has_the_flags_of_compose():
    kubernetes = flags(CONTAINERS["serving"]["args"])
    assert "grpc_channel_arguments" in kubernetes
    kubernetes.pop("grpc_channel_arguments")
    assert kubernetes == flags(compose()["command"])


def test_clients_leave_a_terminating_pod_before_it_is_killed():
    arguments = flags(CONTAINERS["serving"]["args"])["grpc_channel_arguments"]
    channel = {n: int(v) for n, v in (pair.split("=") for pair in arguments.split(","))}
    sleep = int(CONTAINERS["serving"]["lifecycle"]["preStop"]["exec"]["command"][1])
    # gRPC spreads the age of connections by a tenth.
    assert channel["grpc.max_connection_age_ms"] * 1.1 / 1000 < sleep
    assert sleep < POD["terminationGracePeriodSeconds"]


def test_only_named_pods_reach_the_server():
    rules = MANIFESTS["NetworkPolicy/keras-ae-serving"]["spec"]
    assert set(rules["policyTypes"]) == {"Ingress", "Egress"}
    assert all(rule["from"] for rule in rules["ingress"])


# KServe. Kubernetes has no schema for it: the fields below are those of KServe's types, and the
# fields of a container are checked as such. Whether a cluster's KServe has a runtime for
# TensorFlow and grpc-v1 cannot be tested here.

INFERENCE_SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "serving.kserve.io/v1beta1"},
        "kind": {"const": "InferenceService"},
        "metadata": {
            "type": "object",
            "properties": {"name": {"pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"}},
        },
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["predictor"],
            "properties": {
                "predictor": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["model"],
                    "properties": {
                        "minReplicas": {"type": "integer", "minimum": 0},
                        "maxReplicas": {"type": "integer", "minimum": 1},
                        "timeout": {"type": "integer"},
                        "canaryTrafficPercent": {"type": "integer"},
                        "serviceAccountName": {"type": "string"},
                        "model": {"type": "object", "required": ["modelFormat", "storageUri"]},
                    },
                }
            },
        },
    },
}
MODEL_FIELDS = {
    "modelFormat": {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {"name": {"const": "tensorflow"}, "version": {"enum": ["1", "2"]}},
    },
    "runtimeVersion": {"type": "string"},
    "protocolVersion": {"enum": ["v1", "grpc-v1"]},
    "storageUri": {"type": "string", "pattern": "^(gs|s3|pvc|https)://"},
}


def test_kserve_has_the_fields_of_an_inference_service():
    jsonschema.Draft202012Validator(INFERENCE_SERVICE).validate(KSERVE)
    model = KSERVE["spec"]["predictor"]["model"]
    jsonschema.Draft202012Validator({"properties": MODEL_FIELDS}).validate(model)
    container = {key: value for key, value in model.items() if key not in MODEL_FIELDS}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "kserve"},
        "spec": {"containers": [container | {"name": "kserve-container"}]},
    }
    kubernetes_validate.validate(pod, VERSIONS[-1], strict=True)
    assert model["securityContext"]["runAsNonRoot"] is True
    assert model["securityContext"]["allowPrivilegeEscalation"] is False
    assert model["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    # KServe starts TensorFlow Serving with gRPC on this port.
    assert model["ports"] == [{"name": "h2c", "protocol": "TCP", "containerPort": 9000}]
