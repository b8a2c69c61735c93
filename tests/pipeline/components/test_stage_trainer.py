import dataclasses
import json

from tfx.components.trainer.executor import GenericExecutor
from tfx.utils import import_utils

import pipeline
from pipeline.components.budget_comparison.component import Comparison
from pipeline.components.report.component import ReportArtifact
from pipeline.components.stage_trainer import executor
from pipeline.runtime.settings import StageSettings


def test_preset_and_seed_are_added_to_the_settings_of_a_stage(monkeypatch):
    passed = {}
    monkeypatch.setattr(
        GenericExecutor, "Do", lambda self, i, o, properties: passed.update(properties)
    )
    settings = StageSettings(
        channels=3,
        stride=8,
        latent_channels=8,
        batch_size=32,
        memory_limit_bytes=None,
        checkpoints="gs://bucket/checkpoints",
        tile=256,
        start=0,
        stop=10,
        fingerprint="0123",
    )
    properties = {
        "custom_config": settings.to_json(),
        "preset": "small",
        "seed": 7,
        "run_fn": "a.b",
    }
    executor.Executor().Do({}, {}, properties)
    expected = {**dataclasses.asdict(settings), "preset": "small", "seed": 7}
    assert json.loads(passed["custom_config"]) == expected
    assert passed["run_fn"] == "a.b"


def test_kubeflow_s_entry_point_finds_our_types_by_their_names():
    for kind in (Comparison, ReportArtifact):
        assert import_utils.import_class_by_path(kind.TYPE_NAME) is kind
    assert not hasattr(pipeline, "Unknown")
