import json
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import keras
import pytest
from tfx.types import standard_artifacts

from keras_ae.comparison.records import TrainingEnvironment
from pipeline.components.report import facts
from tests.pipeline.components.report.test_executor import STAGE

ENVIRONMENT = STAGE.trained_on


@pytest.fixture
def examples(tmp_path):
    artifact = standard_artifacts.Examples()
    artifact.uri = str(tmp_path)
    for name, count in (("train", 10), ("val", 3), ("test", 4), ("quarantined", 120)):
        artifact.set_int_custom_property(name, count)
    artifact.set_string_custom_property("data", "/images")
    artifact.set_string_custom_property("splits", "the folders train (10), val (3), test (4)")
    artifact.set_string_custom_property("not_read", '{".xyz": 12}')
    lines = [{"source": f"{i}.png", "reason": "not a PNG"} for i in range(120)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "quarantine.jsonl").write_text(text)
    return artifact


def test_the_facts_of_a_run_are_plain_json_and_name_all_that_it_depends_on(examples):
    stages = {"model_100": STAGE, "model_10": STAGE.model_copy(update={"preset": "small"})}
    run = facts.describe_run(
        examples,
        stages,
        seeds=(3, 4),
        command="python x --seed 3",
        data_fingerprint="0123",
        lineage=[],
    )
    written = json.loads(run.to_json())
    assert written["data"] == "/images"
    assert written["images"] == {"train": 10, "val": 3, "test": 4, "quarantined": 120}
    assert written["splits"] == "the folders train (10), val (3), test (4)"
    assert written["not_read"] == {".xyz": 12}
    assert len(written["quarantined"]) == 100
    assert written["quarantined"][0] == {"source": "0.png", "reason": "not a PNG"}
    stage = json.loads(STAGE.to_json())
    own = stage.keys() & written.keys() - {"trained_on"}
    assert own >= {"preset", "preset_settings", "parameters", "batch_size", "tiles_per_second"}
    assert {name: written[name] for name in own} == {name: stage[name] for name in own}
    assert written["trained_on"] == [{"stages": ["model_100", "model_10"], **stage["trained_on"]}]
    assert written["seeds"] == [3, 4]
    assert (written["command"], written["data_fingerprint"]) == ("python x --seed 3", "0123")
    assert written["packages"]["keras"] == keras.__version__
    assert written["packages"]["python"] == platform.python_version()
    created = datetime.fromisoformat(written["created"])
    assert abs((datetime.now(UTC) - created).total_seconds()) < 60


def test_stages_of_different_machines_and_settings_have_entries_of_their_own():
    other = ENVIRONMENT.model_copy(update={"environment": {"TF_ENABLE_ONEDNN_OPTS": "0"}})
    environments = {"model_100": other, "model_10": ENVIRONMENT, "baseline_10": other}
    stages = {n: STAGE.model_copy(update={"trained_on": e}) for n, e in environments.items()}
    assert facts.trained_on(stages) == (
        TrainingEnvironment(stages=("model_100", "baseline_10"), **dict(other)),
        TrainingEnvironment(stages=("model_10",), **dict(ENVIRONMENT)),
    )


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def test_git_gives_the_commit_and_whether_the_code_differs_from_it(tmp_path):
    (tmp_path / "sub").mkdir()
    assert facts.git(tmp_path) is None
    git(tmp_path, "init")
    assert facts.git(tmp_path) is None
    (tmp_path / "code.py").write_text("x = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "one")
    (tmp_path / "untracked").write_text("data")
    commit = facts.git(tmp_path)
    assert len(commit.commit) == 40
    assert commit.dirty is False
    (tmp_path / "code.py").write_text("x = 2\n")
    assert facts.git(tmp_path) == commit.model_copy(update={"dirty": True})
    assert facts.git(tmp_path / "sub") is None


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    git(tmp_path, "init")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert facts.git(tmp_path) is None


def test_the_lineage_names_the_node_behind_each_artifact():
    def artifact(kind, number: int, uri: str):
        artifact = kind()
        artifact.id, artifact.uri = number, uri
        return artifact

    consumed = {
        "model_10": [artifact(standard_artifacts.Model, 7, "/root/x/Trainer_10/model/9")],
        "in_service": [artifact(standard_artifacts.Model, 8, "/elsewhere/model")],
        "examples": [
            artifact(standard_artifacts.Examples, 2, "/root/x/ImageExampleGen/examples/1")
        ],
    }
    kind, uri = "ImageExampleGen", "ImageExampleGen/examples/1"
    assert [entry.model_dump() for entry in facts.lineage(consumed, Path("/root/x"))] == [
        {"id": 2, "type": "Examples", "node": kind, "name": "examples", "uri": uri},
        {
            "id": 7,
            "type": "Model",
            "node": "Trainer_10",
            "name": "model_10",
            "uri": "Trainer_10/model/9",
        },
        {"id": 8, "type": "Model", "node": None, "name": "in_service", "uri": "/elsewhere/model"},
    ]


@pytest.mark.parametrize("ids", [(7, 6), (6, 7)])
def test_the_lineage_of_a_node_does_not_depend_on_the_order_of_its_ids(ids):
    consumed = {"model": [standard_artifacts.Model()], "late": [standard_artifacts.Model()]}
    consumed |= {"early": [standard_artifacts.Model()]}
    for (name, (artifact,)), number in zip(consumed.items(), (1, *ids)):
        node = "Trainer" if name == "model" else "Evaluator"
        artifact.id, artifact.uri = number, f"/root/{node}/{name}/1"
    listed = facts.lineage(consumed, "/root")
    assert [entry.name for entry in listed] == ["model", "early", "late"]
