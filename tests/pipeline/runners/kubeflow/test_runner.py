import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.components import load_component_from_text
from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline import definition
from pipeline.run_kubeflow import parse_arguments
from pipeline.runners.kubeflow import runner
from tests.e2e import backend

ROOT = Path(__file__).parents[4]
GOLDEN = Path(__file__).parent / "golden" / "pipeline.yaml"
RENEW = "RENEW_GOLDEN"
PLACES = ["--image", "registry.example/keras-ae:1", "--pipeline-root", "gs://bucket/root"]
ALL = [
    *PLACES, "--budgets", "10,100", "--data", "/data/images.zip", "--gpu", "nvidia.com/gpu=1",
    "--incumbent-uri", "gs://bucket/model", "--toleration", "nvidia.com/gpu:NoSchedule",
    "--node-selector", "pool=gpu", "--volume", "images:/data", "--secret", "bucket-key:/secrets",
    "--env", "GOOGLE_APPLICATION_CREDENTIALS=/secrets/key.json",
]  # fmt: skip


@pytest.fixture
def compiled(monkeypatch):
    """Compiles with flags; fingerprints of source code, which each edit changes, are `code`."""
    monkeypatch.setattr(definition, "source_fingerprint", lambda module: "code")

    def text(*flags: str) -> str:
        return runner.compiled(parse_arguments([*flags, "--output", "pipeline.yaml"]))

    return text


def documents(text: str) -> list[dict]:
    return list(yaml.safe_load_all(text))


def test_the_compiled_pipeline_is_the_golden_one(compiled):
    """With RENEW_GOLDEN=1 in the environment the golden file is written again."""
    text = compiled(*ALL)
    if os.environ.get(RENEW):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_kfp_and_the_backend_take_the_golden_pipeline():
    text = GOLDEN.read_text()
    spec, platform = documents(text)
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    backend.load(text)
    component = load_component_from_text(text)
    assert set(component.component_spec.inputs) == {"data", "data_fingerprint", "preset", "seed"}
    assert component.component_spec.inputs["seed"].type == "Integer"
    # The open-source backend does not support it.
    assert "resolver" not in text
    assert "lifecycle" not in text


def test_data_preset_and_seed_have_defaults_and_the_fingerprint_has_none():
    (spec, _) = documents(GOLDEN.read_text())
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert {name: each.get("defaultValue") for name, each in parameters.items()} == {
        "data": "/data/images.zip",
        "data_fingerprint": None,
        "preset": "medium",
        "seed": 0,
    }
    tasks = spec["root"]["dag"]["tasks"]
    of_task = {
        name: {
            key
            for key, source in task["inputs"].get("parameters", {}).items()
            if "componentInputParameter" in source
        }
        for name, task in tasks.items()
    }
    assert of_task["ImageExampleGen"] == {"data", "fingerprint"}
    assert of_task["Trainer-10"] == of_task["Trainer-100"] == {"preset", "seed"}
    assert of_task["Report"] == {"data_fingerprint"}


def test_every_container_asks_for_its_resources_and_only_those_that_train_for_a_gpu():
    spec, platform = documents(GOLDEN.read_text())
    kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    executors = spec["deploymentSpec"]["executors"]
    containers = {label: e["container"] for label, e in executors.items() if "container" in e}
    assert set(executors) - set(containers) == {"ModelInService_executor"}
    for label, container in containers.items():
        trains = label.startswith("Trainer")
        resources = container["resources"]
        cpus = resources["resourceCpuLimit"], resources["resourceCpuRequest"]
        assert cpus == (("4", "4") if trains else ("2", "2"))
        assert resources["resourceMemoryLimit"] == ("16Gi" if trains else "4Gi")
        assert ("accelerator" in resources) == trains
        assert container["env"][0]["name"] == "GOOGLE_APPLICATION_CREDENTIALS"
        executor = kubernetes[label]
        assert executor["pvcMount"][0]["mountPath"] == "/data"
        assert executor["secretAsVolume"][0]["secretName"] == "bucket-key"
        assert ("tolerations" in executor) == ("nodeSelector" in executor) == trains
    gpu = containers["Trainer_10_executor"]["resources"]["accelerator"]
    assert (gpu["resourceType"], gpu["resourceCount"]) == ("nvidia.com/gpu", "1")


def test_steps_that_depend_on_the_model_in_service_are_never_cached():
    (spec, _) = documents(GOLDEN.read_text())
    cached = {
        name for name, task in spec["root"]["dag"]["tasks"].items() if "cachingOptions" in task
    }
    assert set(spec["root"]["dag"]["tasks"]) - cached == {"ServingCheck", "Report", "Pusher"}


@pytest.mark.parametrize(
    ("flags", "parameters"),
    [
        (["--seeds", "2"], ["data", "data_fingerprint", "preset"]),
        (["--with-baseline"], ["data", "data_fingerprint", "seed"]),
        (["--tune", "2"], ["data", "data_fingerprint"]),
    ],
)
def test_settings_that_the_pipeline_is_built_from_are_no_runtime_parameters(
    compiled, flags, parameters
):
    text = compiled(*PLACES, "--budgets", "10", *flags, "--preset", "small", "--seed", "3")
    backend.load(text)
    (spec,) = documents(text)
    assert sorted(spec["root"]["inputDefinitions"]["parameters"]) == parameters


def test_without_anything_for_kubernetes_there_is_one_document(compiled):
    (spec,) = documents(compiled(*PLACES, "--budgets", "10", "--data-fingerprint", "v1"))
    executors = spec["deploymentSpec"]["executors"].values()
    assert not any("accelerator" in executor["container"]["resources"] for executor in executors)
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert parameters["data_fingerprint"]["defaultValue"] == "v1"


def test_beam_s_engine_reaches_the_steps_on_beam(compiled):
    (spec,) = documents(compiled(*PLACES, "--budgets", "10", "--workers", "3"))
    for label in ("ImageExampleGen_executor", "BudgetComparison_executor", "Evaluator_executor"):
        args = spec["deploymentSpec"]["executors"][label]["container"]["args"]
        assert {"--direct_running_mode=multi_processing", "--direct_num_workers=3"} <= set(args)


def test_the_same_flags_give_the_same_bytes_in_any_process_and_folder(tmp_path):
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"
    done = subprocess.run(
        [sys.executable, ROOT / "pipeline" / "run_kubeflow.py", *ALL, "--output", "p.yaml"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": seed, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "compiled: p.yaml",
        "parameters of a run: data, data_fingerprint, preset, seed",
    ]
    arguments = parse_arguments([*ALL, "--output", "p.yaml"])
    assert (tmp_path / "p.yaml").read_text() == runner.compiled(arguments)
