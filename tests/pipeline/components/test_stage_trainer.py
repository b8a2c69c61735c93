import json

from tfx.components.trainer.executor import GenericExecutor
from tfx.utils import import_utils

import pipeline
from pipeline.components.budget_comparison.component import Comparison
from pipeline.components.report.component import ReportArtifact
from pipeline.components.stage_trainer import executor


def test_preset_and_seed_join_the_settings_of_a_stage(monkeypatch):
    told = {}
    monkeypatch.setattr(
        GenericExecutor, "Do", lambda self, i, o, properties: told.update(properties)
    )
    properties = {"custom_config": '{"stop": 10}', "preset": "small", "seed": 7, "run_fn": "a.b"}
    executor.Executor().Do({}, {}, properties)
    assert json.loads(told["custom_config"]) == {"stop": 10, "preset": "small", "seed": 7}
    assert told["run_fn"] == "a.b"


def test_kubeflow_s_entry_point_finds_our_types_by_their_names():
    for kind in (Comparison, ReportArtifact):
        assert import_utils.import_class_by_path(kind.TYPE_NAME) is kind
    assert not hasattr(pipeline, "Unknown")
