import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tfx.types import standard_artifacts

from keras_ae import presets
from keras_ae.comparison.records import Check, Verdict
from keras_ae.scores import MODEL
from keras_ae.stages import Environment, StageSummary
from pipeline.components.budget_comparison import keys
from pipeline.components.budget_comparison.component import Comparison
from pipeline.components.budget_comparison.keys import ModelKey
from pipeline.components.report import executor
from pipeline.components.report.component import ReportArtifact
from pipeline.components.report.mlflow_log import MlflowSettings
from pipeline.evaluation import Limits
from pipeline.runtime import versions
from pipeline.runtime.artifacts import PROVENANCE, SUMMARY
from tests.keras_ae.report.reports import RUN, make_comparison, make_pictures

STAGE = StageSummary(
    start=0,
    stop=10,
    seconds=1.5,
    tiles_per_second=906.5,
    loss=0.01,
    preset="medium",
    preset_settings=presets.get("medium"),
    parameters=7,
    flops_per_pixel=9.0,
    channels=3,
    stride=8,
    latent_channels=8,
    tile=64,
    served_tile=512,
    tiles_per_epoch=80,
    decoded_bytes=36_200_000,
    placement="in memory",
    seed=0,
    batch_size=32,
    backend="tensorflow",
    code_fingerprint="4567",
    trained_on=Environment(
        **{name: RUN["trained_on"][0][name] for name in Environment.model_fields}
    ),
    losses=(0.02, 0.01),
)


@pytest.fixture
def consumed(tmp_path, comparison, pictures) -> dict:
    """The inputs of Report after a run with a blessed model."""
    root = tmp_path / "root"

    def new_artifact(kind, node: str, output: str):
        artifact = kind()
        artifact.uri = str(root / node / output / "1")
        Path(artifact.uri).mkdir(parents=True)
        return artifact

    compared = new_artifact(Comparison, "BudgetComparison", "comparison")
    (Path(compared.uri) / "comparison.json").write_text(json.dumps(comparison))
    (Path(compared.uri) / "images.jsonl").write_text('{"source": "a/b.png"}\n')
    pictures.rename(Path(compared.uri) / "pictures")
    blessing = new_artifact(standard_artifacts.ModelBlessing, "Evaluator", "blessing")
    blessing.set_int_custom_property("blessed", 1)
    served = new_artifact(standard_artifacts.InfraBlessing, "ServingCheck", "blessing")
    served.set_int_custom_property("blessed", 1)
    models = {}
    for budget in (10, 100):
        model = new_artifact(standard_artifacts.Model, f"Trainer_{budget}", "model")
        summary = Path(model.uri) / SUMMARY
        summary.parent.mkdir()
        stage = STAGE.model_copy(update={"tiles_per_second": float(budget)})
        summary.write_text(stage.to_json())
        models[f"model_{budget}"] = [model]
    return {
        "examples": [new_artifact(standard_artifacts.Examples, "ImageExampleGen", "examples")],
        "comparison": [compared],
        "evaluation": [new_artifact(standard_artifacts.ModelEvaluation, "Evaluator", "evaluation")],
        "model_blessing": [blessing],
        "infra_blessing": [served],
        **models,
    }


def to_mlflow(uri: str | None) -> str:
    return MlflowSettings(mlflow_uri=uri, mlflow_experiment="ours").to_json()


def report(consumed: dict, folder: Path | str, **properties):
    artifact = ReportArtifact()
    artifact.uri = f"{folder}/root/Report/report/2"
    parameters = {
        "models": keys.to_json([ModelKey(MODEL, budget) for budget in (10, 100)]),
        "limits": Limits().to_json(),
        "command": "python pipeline/run_local.py --seed 3",
        "data_fingerprint": "0123",
        "mlflow": to_mlflow(None),
        "fingerprint": "",
        **properties,
    }
    executor.Executor().Do(consumed, {"report": [artifact]}, parameters)
    return artifact


@pytest.fixture
def comparison() -> dict:
    return make_comparison()


@pytest.fixture
def pictures(tmp_path, photographs) -> Path:
    make_pictures(tmp_path / "pictures", photographs, side=64)
    return tmp_path / "pictures"


@pytest.fixture(autouse=True)
def evaluated(monkeypatch):
    """Replaces the Evaluator, which takes half a minute; its verdict is tested elsewhere."""
    check = Check(
        name="gain_over_floor",
        slice=None,
        images=48,
        value=1.5,
        limit=0.0,
        ok=True,
        text="it lies above the floor",
    )
    verdict = Verdict(blessed=True, checks=(check,), not_judged=(), slices=(), skipped_ssim=0)

    def read(evaluation, limits, *, uncompared, refusal):
        text = refusal or f"because {uncompared}"
        service = check.model_copy(update={"name": "mean_psnr", "text": text})
        return verdict.model_copy(update={"checks": (check, service)})

    monkeypatch.setattr(executor, "read_verdict", read)


def test_the_report_has_the_comparison_with_the_run_and_the_verdict(consumed, comparison, tmp_path):
    folder = Path(report(consumed, tmp_path).uri)
    written = json.loads((folder / "comparison.json").read_text())
    run, verdict = written.pop("run"), written.pop("verdict")
    assert written == {k: v for k, v in comparison.items() if k not in ("run", "verdict")}
    assert run["command"] == "python pipeline/run_local.py --seed 3"
    assert run["tiles_per_second"] == 100.0
    assert [entry["stages"] for entry in run["trained_on"]] == [["model_100", "model_10"]]
    nodes = {entry["name"]: entry["node"] for entry in run["lineage"]}
    assert nodes["model_10"] == "Trainer_10"
    assert nodes["evaluation"] == "Evaluator"
    assert set(nodes) == set(consumed)
    assert verdict["blessed"] is True
    assert verdict["served"] == {"ok": True, "text": executor.SERVED}
    assert (folder / "images.jsonl").read_text() == '{"source": "a/b.png"}\n'
    page = (folder / "report.html").read_text()
    assert "It lies above the floor" in page
    assert "data:image/webp;base64" in page
    assert list((folder / "tensorboard" / "model" / "test").iterdir())


def test_why_a_blessed_model_cannot_be_served_is_in_the_verdict(consumed, tmp_path):
    (served,) = consumed["infra_blessing"]
    served.set_int_custom_property("blessed", 0)
    served.set_string_custom_property("reason", "REST: 7 grey levels")
    folder = Path(report(consumed, tmp_path).uri)
    verdict = json.loads((folder / "comparison.json").read_text())["verdict"]
    assert verdict["served"] == {"ok": False, "text": "REST: 7 grey levels"}


@pytest.fixture
def judged(consumed, tmp_path):
    """The verdict where a version is in service: judged(its facts, compared, **limits)."""

    def judge(facts: dict, *, compared: str = "digest", refusal: str = "", **limits) -> dict:
        version = standard_artifacts.Model()
        version.uri = str(tmp_path / "push" / "7")
        file = Path(version.uri) / PROVENANCE
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(facts))
        (examples,), (blessing,) = consumed["examples"], consumed["model_blessing"]
        examples.set_string_custom_property("fingerprint", "0123")
        examples.set_int_custom_property("test", 4)
        blessing.set_string_custom_property(versions.COMPARED, compared)
        blessing.set_string_custom_property(versions.REFUSAL, refusal)
        inputs = {**consumed, "in_service": [version]}
        folder = Path(report(inputs, tmp_path, limits=Limits(**limits).to_json()).uri)
        return json.loads((folder / "comparison.json").read_text())["verdict"]

    return judge


def test_a_comparison_on_images_that_the_model_in_service_may_know_is_noted(judged):
    data = {"fingerprint": "0123", "train": 0, "val": 0, "test": 4}
    assert judged({"data": data})["notes"] == []
    caution = "the model in service may have been trained on some of these test images, because "
    for other in ({**data, "fingerprint": "4567"}, {**data, "test": 5}):
        (note,) = judged({"data": other})["notes"]
        assert note.startswith(f"{caution}its data or splits were others")
    (note,) = judged({})["notes"]
    assert note.startswith(f"{caution}its data are not recorded")
    assert "notes" not in judged({}, compared="")


def test_a_comparison_with_a_model_of_another_latent_size_is_noted(judged):
    data = {"fingerprint": "0123", "train": 0, "val": 0, "test": 4}
    assert judged({"data": data, "stride": 4, "latent_channels": 2})["notes"] == [
        "the models are compared by their PSNR, although their latents differ in size: the model "
        "in service has 2 channels at stride 4: 0.125 values per pixel, 4.2 % of the image's "
        "values; this model has 8 channels at stride 8: 0.125 values per pixel, 4.2 % of the "
        "image's values"
    ]


def test_why_there_was_no_comparison_is_in_the_verdict(judged):
    def text(**outcome) -> str:
        verdict = judged({}, **outcome)
        assert "notes" not in verdict
        return verdict["checks"][1]["text"]

    assert text(compared="") == "because no other model is in service"
    skipped = "because --replace skips the comparison with the model in service"
    assert text(compared="", replace=True) == skipped
    assert text(refusal="it has 3 channels") == "it has 3 channels"


def test_a_run_is_logged_to_mlflow_if_there_is_an_address(consumed, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = (tmp_path / "mlruns").as_uri()
    artifact = report(consumed, tmp_path, mlflow=to_mlflow(store))
    run_id = artifact.get_string_custom_property(executor.MLFLOW_RUN)
    assert artifact.get_string_custom_property(executor.MLFLOW_FAILURE) == ""
    client = MlflowClient(store)
    assert client.get_run(run_id).data.params["preset"] == "medium"
    logged = {file.path for file in client.list_artifacts(run_id)}
    assert logged == {"report.html", "comparison.json"}


def test_a_report_is_not_lost_because_mlflow_does_not_answer(consumed, tmp_path):
    artifact = report(consumed, tmp_path, mlflow=to_mlflow("nowhere://x"))
    failure = artifact.get_string_custom_property(executor.MLFLOW_FAILURE)
    assert failure.startswith("nothing was logged to MLflow at nowhere://x")
    assert (Path(artifact.uri) / "report.html").is_file()


def test_a_report_in_a_bucket_is_the_same(consumed, tmp_path, bucket):
    local = Path(report(consumed, tmp_path).uri)
    uri = bucket.put(tmp_path / "root", "root")
    for artifacts in consumed.values():
        artifacts[0].uri = artifacts[0].uri.replace(f"{tmp_path}/root", uri)
    bad = {"source": "broken.png", "reason": "cut short"}
    bucket.write("root/ImageExampleGen/examples/1/quarantine.jsonl", json.dumps(bad).encode())
    report(consumed, bucket.uri)
    copy = bucket.get("root/Report/report/2", tmp_path / "copy")
    remote, expected = (json.loads((p / "comparison.json").read_text()) for p in (copy, local))
    assert remote["run"].pop("quarantined") == [bad]
    for run in (remote["run"], expected["run"]):
        del run["created"]
    del expected["run"]["quarantined"]
    assert remote == expected
    assert (copy / "images.jsonl").read_bytes() == (local / "images.jsonl").read_bytes()
    assert "data:image/webp;base64" in (copy / "report.html").read_text()
    assert list((copy / "tensorboard" / "model" / "test").iterdir())
