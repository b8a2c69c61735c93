import os

import pytest
from tfx.dsl.compiler import compiler
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher

from pipeline.definition import create_pipeline
from pipeline.runners.beam import engines, operator
from pipeline.runtime.fingerprint import ROOT
from pipeline.runtime.run_config import RunConfig

BEAM_NODES = {"ImageExampleGen", "StatisticsGen", "Transform", "BudgetComparison", "Evaluator"}


@pytest.fixture(scope="module")
def specs() -> dict:
    """The executor specs of the compiled pipeline's nodes, which are in their cache keys."""
    pipeline = create_pipeline(
        RunConfig(budgets=(1,)),
        pipeline_name="p",
        pipeline_root="/root",
        data_fingerprint="f",
        push_destination="/push",
        checkpoints="/checkpoints",
        beam_pipeline_args=engines.beam_arguments(engines.DIRECT, 1, []),
    )
    compiled = compiler.Compiler().compile(pipeline)
    config = runner_utils.extract_local_deployment_config(compiled)
    names = [node.pipeline_node.node_info.id for node in compiled.nodes]
    return {name: runner_utils.extract_executor_spec(config, name) for name in names}


def launched(spec):
    """The executor operator that TFX's launcher creates from the spec of a node."""
    return launcher.DEFAULT_EXECUTOR_OPERATORS[type(spec)](spec)


def test_the_engine_reaches_all_beam_nodes_and_no_cache_key(specs):
    arguments = engines.beam_arguments(engines.DIRECT, 2, ["--temp_location=/tmp/x"])
    before = {name: spec.SerializeToString(deterministic=True) for name, spec in specs.items()}
    on_beam = {name for name, spec in specs.items() if hasattr(spec, "beam_pipeline_args")}
    assert on_beam == BEAM_NODES
    with operator.engine(arguments):
        for name in on_beam:
            given = launched(specs[name]).beam_pipeline_args
            assert [argument.value.string_value for argument in given] == arguments
    assert before == {n: spec.SerializeToString(deterministic=True) for n, spec in specs.items()}


def test_what_was_set_for_the_engine_is_put_back(specs, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/mine")
    with operator.engine(["--x"]):
        assert os.environ["PYTHONPATH"] == f"{ROOT}{os.pathsep}/mine"
    assert os.environ["PYTHONPATH"] == "/mine"
    given = launched(specs["Evaluator"]).beam_pipeline_args
    usual = engines.beam_arguments(engines.DIRECT, 1, [])
    assert [argument.value.string_value for argument in given] == usual
    monkeypatch.delenv("PYTHONPATH")
    with operator.engine(["--x"]):
        assert os.environ["PYTHONPATH"] == str(ROOT)
    assert "PYTHONPATH" not in os.environ
