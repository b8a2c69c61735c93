"""Configuration files and docker-compose, as far as they can be checked without Docker."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from google.protobuf import text_format

from serving.server.flags import parse
from serving.server.models import config
from serving.wire.protos import ModelConfig, ModelServerConfig
from tests.serving.deploy.deployment import (
    CONFIG,
    CONTAINERS,
    DEPLOY,
    KSERVE,
    MANIFESTS,
    PINNED,
    ROOT,
    compose,
    flags,
)

# The configuration of the server


def models_config(text: str) -> Any:
    return text_format.Parse(text, ModelServerConfig())


def test_the_base_path_is_that_of_compose_and_kubernetes():
    (model,) = models_config((CONFIG / "models.config").read_text()).model_config_list.config
    assert (model.name, model.base_path) == ("keras_ae", "/models/keras_ae")
    assert model.model_platform == "tensorflow"
    assert model.model_version_policy.latest.num_versions == 1
    assert not model.version_labels


def test_the_examples_in_the_comments_are_valid():
    text = (CONFIG / "models.config").read_text()
    examples = re.findall(r"^ +#   (\w.*\{.*\})$", text, re.MULTILINE)
    pin, two, *labels = [text_format.Parse(example, ModelConfig()) for example in examples]
    assert list(pin.model_version_policy.specific.versions) == [1795445643]
    assert two.model_version_policy.latest.num_versions == 2
    assert [list(label.version_labels) for label in labels] == [["stable"], ["canary"]]


def test_batching_bounds_the_waiting_time_and_does_not_pad():
    batching = config.read(CONFIG / "batching.config", config.BatchingParameters)
    assert batching.max_batch_size.value == 32
    assert 0 < batching.batch_timeout_micros.value <= 10_000
    assert batching.max_enqueued_batches.value >= 1
    assert not batching.pad_variable_length_inputs
    assert not batching.allowed_batch_sizes


def test_the_recommended_batch_sizes_for_a_gpu_are_valid():
    text = (CONFIG / "batching.config").read_text()
    (advised,) = re.findall(r"^#   (allowed_batch_sizes: \[.*\])$", text, re.MULTILINE)
    batching = text_format.Parse(text + advised, config.BatchingParameters())
    # TensorFlow Serving asks for increasing sizes, the last one max_batch_size.
    assert list(batching.allowed_batch_sizes) == sorted(set(batching.allowed_batch_sizes))
    assert batching.allowed_batch_sizes[-1] == batching.max_batch_size.value


def test_the_metrics_path_is_that_of_the_pod_annotation():
    monitoring = config.read(CONFIG / "monitoring.config", config.MonitoringConfig)
    assert monitoring.prometheus_config.enable
    annotations = MANIFESTS["Deployment/keras-ae-serving"]["spec"]["template"]["metadata"][
        "annotations"
    ]
    assert annotations["prometheus.io/path"] == monitoring.prometheus_config.path


# docker-compose


def here(arguments: list[str]) -> list[str]:
    """The arguments with the files of this checkout in place of those in the container."""
    return [argument.replace("=/config/", f"={CONFIG}/") for argument in arguments]


@pytest.mark.parametrize(
    "arguments",
    [compose()["command"], compose("batching")["command"], CONTAINERS["serving"]["args"]],
    ids=["compose", "compose with batching", "kubernetes"],
)
def test_the_local_server_knows_every_flag(arguments):
    read = parse(here(arguments))
    assert (read.port, read.rest_port) == (8500, 8501)
    assert [model.name for model in read.models.model_config_list.config] == ["keras_ae"]
    assert read.metrics_path == "/monitoring/prometheus/metrics"


@pytest.mark.parametrize("overrides", [[], ["batching"], ["gpu"], ["batching", "gpu"]])
def test_the_service_follows_the_compose_schema(overrides):
    service = compose(*overrides)
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["image", "command"],
        "properties": {
            "image": {"type": "string", "pattern": PINNED.pattern},
            "platform": {"const": "linux/amd64"},
            "entrypoint": {"type": "array", "items": {"type": "string"}},
            "command": {"type": "array", "items": {"type": "string", "pattern": "^--[a-z_]+=.+$"}},
            "environment": {"type": "object", "additionalProperties": {"type": "string"}},
            "ports": {"type": "array", "items": {"type": "string"}},
            "volumes": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["type", "source", "target"],
                    "properties": {
                        "type": {"const": "bind"},
                        "source": {"type": "string"},
                        "target": {"type": "string", "pattern": "^/"},
                        "read_only": {"const": True},
                        "bind": {"const": {"create_host_path": False}},
                    },
                },
            },
            "healthcheck": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "test": {"type": "array", "prefixItems": [{"enum": ["CMD", "CMD-SHELL"]}]},
                    "retries": {"type": "integer", "minimum": 1},
                }
                | {
                    name: {"type": "string", "pattern": "^[0-9]+(ms|s|m)$"}
                    for name in ("interval", "timeout", "start_period")
                },
            },
            "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
            "user": {"type": "string", "pattern": "^[1-9][0-9]*:[1-9][0-9]*$"},
            "read_only": {"const": True},
            "tmpfs": {"type": "array", "items": {"type": "string", "pattern": "^/.*:size=.+$"}},
            "cap_drop": {"const": ["ALL"]},
            "security_opt": {"const": ["no-new-privileges:true"]},
            "init": {"type": "boolean"},
            "pids_limit": {"type": "integer", "minimum": 1},
            "cpus": {"type": "number", "exclusiveMinimum": 0},
            "mem_limit": {"type": "string", "pattern": "^[0-9]+[kmg]$"},
            "logging": {"type": "object", "required": ["driver", "options"]},
            "deploy": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"resources": {"type": "object", "required": ["reservations"]}},
            },
        },
    }
    jsonschema.Draft202012Validator(schema).validate(service)
    assert ("-gpu" in service["image"]) == ("gpu" in overrides) == ("deploy" in service)


def test_compose_publishes_ports_locally_and_can_only_write_to_tmp():
    service = compose()
    assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [path.split(":")[0] for path in service["tmpfs"]] == ["/tmp"]
    assert all(volume["read_only"] for volume in service["volumes"])
    assert {"cpus", "mem_limit", "pids_limit"} <= set(service)
    assert service["restart"] == "unless-stopped"


def test_folders_that_compose_mounts_exist():
    sources = {volume["target"]: volume["source"] for volume in compose()["volumes"]}
    pushed = re.fullmatch(r"\$\{KERAS_AE_MODELS:-(.+)\}", sources["/models"])
    assert (DEPLOY / pushed[1]).resolve() == ROOT / "runs/default/serving"
    assert (DEPLOY / sources["/config"]).resolve() == CONFIG
    for value in flags(compose("batching")["command"]).values():
        if value.startswith("/config/"):
            assert (CONFIG / value.removeprefix("/config/")).is_file(), value


def test_batching_adds_to_the_flags_and_changes_none():
    plain, batching = flags(compose()["command"]), flags(compose("batching")["command"])
    assert batching == plain | {
        "enable_batching": "true",
        "batching_parameters_file": "/config/batching.config",
    }


@pytest.mark.parametrize(
    "image",
    [
        compose()["image"],
        compose("gpu")["image"],
        CONTAINERS["serving"]["image"],
        f"tensorflow/serving:{KSERVE['spec']['predictor']['model']['runtimeVersion']}",
    ],
)
def test_the_image_has_the_locked_tensorflow_version(image):
    lock = (ROOT / "requirements.lock").read_text()
    locked = re.search(r"^tensorflow==(\d+\.\d+)\.", lock, re.MULTILINE)
    assert PINNED.match(image)
    assert image.startswith(f"tensorflow/serving:{locked[1]}.")


# The page about all this


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_links_of_the_page_exist():
    page = ROOT / "docs" / "serving.md"
    links = re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", page.read_text())
    assert len(links) > 10
    for path, anchor in links:
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), anchor


def test_the_page_names_files_and_images_that_are_deployed():
    text = (ROOT / "docs" / "serving.md").read_text()
    for name in re.findall(r"serving/deploy/[\w./-]+", text):
        assert (ROOT / name.rstrip(".")).exists(), name
    images = set(re.findall(r"tensorflow/serving:[\w.-]+\w", text))
    assert images == {compose()["image"]}
