"""Pipelines that the open-source backend would refuse are refused before a replay."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.e2e import backend
from tests.e2e.replay import Replay

GOLDEN = Path(__file__).parents[1] / "pipeline/runners/kubeflow/golden/pipeline.yaml"


def executor(spec: dict, name: str = "Trainer_10") -> dict:
    return spec["deploymentSpec"]["executors"][f"{name}_executor"]


def task(spec: dict, name: str = "Trainer-10") -> dict:
    return spec["root"]["dag"]["tasks"][name]


def model_output(spec: dict) -> dict:
    return spec["components"]["Trainer-10"]["outputDefinitions"]["artifacts"]["model"]


def remove_type(spec: dict) -> None:
    model_output(spec)["artifactType"] = {}


def set_type(title: str) -> Callable[[dict], object]:
    schema = {"instanceSchema": f"title: {title}\n"}
    return lambda spec: model_output(spec).update(artifactType=schema)


def rename_pusher(spec: dict) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    tasks["Pusher_1"] = tasks.pop("Pusher")


HOOK = {"preCacheCheck": {"command": ["python", "-m", "driver"]}}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda s: s.update(schemaVersion="2.0.0"), "only schema version 2.1.0"),
        (lambda s: s["pipelineInfo"].update(name="Mine"), "bad name 'Mine'"),
        (lambda s: s.update(unknown=1), "invalid spec: .*unknown"),
        (lambda s: s["components"].update(root={}), "'root' is reserved"),
        (lambda s: executor(s).update(container=None, resolver={}), "resolver executor"),
        (lambda s: executor(s).update(container=None, customJob={}), "custom_job executor"),
        (lambda s: executor(s)["container"].update(lifecycle=HOOK), "lifecycle hook is never run"),
        (lambda s: executor(s)["container"].pop("image"), "Trainer-10: no image"),
        (lambda s: executor(s)["container"].pop("command"), "Trainer-10: no command"),
        (
            lambda s: executor(s)["container"]["resources"].update(accelerator={"count": "1"}),
            "accelerator without type",
        ),
        (
            lambda s: executor(s, "ModelInService")["importer"].pop("typeSchema"),
            "importer without type",
        ),
        (
            lambda s: executor(s, "ModelInService")["importer"].pop("artifactUri"),
            "importer without URI",
        ),
        (
            lambda s: task(s, "ModelInService").update(triggerPolicy={"condition": "1 == 1"}),
            "condition on an importer",
        ),
        (remove_type, "artifact model has no type"),
        (set_type("tfx.Painting"), "unknown type 'tfx.Painting'"),
        (set_type("keras_ae.Comparison"), "unknown type 'keras_ae.Comparison'"),
        (lambda s: task(s)["componentRef"].update(name="X"), "unknown component 'X'"),
        (lambda s: s["deploymentSpec"]["executors"].pop("Trainer_10_executor"), "unknown executor"),
        (lambda s: task(s)["dependentTasks"].append("X"), "waits for 'X', which is unknown"),
        (lambda s: task(s)["dependentTasks"].append("Trainer-100"), "tasks wait for each other"),
        (lambda s: task(s)["dependentTasks"].remove("Transform"), "does not wait for Transform"),
        (lambda s: task(s)["inputs"]["parameters"].pop("seed"), "parameter seed has no source"),
        (lambda s: s["root"]["inputDefinitions"]["parameters"].pop("seed"), "given by 'seed'"),
        (
            lambda s: s["root"]["inputDefinitions"]["parameters"]["seed"].pop("parameterType"),
            "parameter seed has unspecified type",
        ),
        (rename_pusher, "task name 'Pusher_1' must consist of"),
        (lambda s: task(s).update(artifactIterator={"itemInput": "x"}), "artifact iterator"),
    ],
)
def test_an_invalid_pipeline_is_refused(spoil, reason):
    spec, platform = yaml.safe_load_all(GOLDEN.read_text())
    spoil(spec)
    with pytest.raises(backend.RefusedError, match=reason):
        backend.load(yaml.safe_dump_all([spec, platform]))


def test_there_is_one_pipeline_and_one_platform_in_a_file():
    spec, platform = yaml.safe_load_all(GOLDEN.read_text())
    for documents, reason in (
        ([spec, spec], "expected one pipeline spec; got 2"),
        ([platform], "expected one pipeline spec; got 0"),
        ([spec, platform, platform], "multiple platform specs"),
    ):
        with pytest.raises(backend.RefusedError, match=reason):
            backend.load(yaml.safe_dump_all(documents))


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({}, "data_fingerprint has no value and no default"),
        ({"data_fingerprint": "v1", "seed": "3"}, "seed has the wrong type: '3'"),
        ({"data_fingerprint": "v1", "epochs": 3}, "unknown parameters: epochs"),
    ],
)
def test_missing_unknown_and_mistyped_parameters_are_refused(tmp_path, parameters, reason):
    with pytest.raises(backend.RefusedError, match=reason):
        Replay(GOLDEN.read_text(), "gs://bucket/root", parameters, tmp_path)


def test_a_pipeline_root_outside_a_bucket_is_refused():
    backend.check_root("gs://bucket/root")
    with pytest.raises(backend.RefusedError, match="unsupported storage scheme"):
        backend.check_root("/mnt/root")
